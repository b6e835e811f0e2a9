"""`python -m validator`: a validator alone, from the environment."""

from shared.logs import configure_logs
from shared.process import run_process
from shared.settings import Settings
from validator.serve import serve_validator

if __name__ == "__main__":
    settings = Settings.load()
    configure_logs(settings.log_level)
    raise SystemExit(run_process(lambda stop: serve_validator(settings, stop)))
