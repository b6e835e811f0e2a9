"""Every character of the lab, by name. A name without an entry here is no character."""

from __future__ import annotations

from services.maillab.characters import refusing, timing
from services.maillab.characters.character import Character

CHARACTERS: dict[str, type[Character]] = {
    kind.name: kind
    for kind in (
        Character,
        refusing.CatchAll,
        refusing.Greylisting,
        refusing.GreylistingFirstSession,
        refusing.Full,
        refusing.Disabled,
        refusing.BlocksUs,
        refusing.RateLimited,
        refusing.ServerError,
        refusing.RelayDenied,
        refusing.AccessDenied,
        refusing.TooManyErrors,
        refusing.RecipientLimit,
        refusing.ConnectionLimit,
        refusing.DefersRandom,
        refusing.HalfCatchAll,
        refusing.AcceptsAllThenBounces,
        refusing.Replies251,
        refusing.Replies252,
        refusing.OddEnhanced,
        timing.Silent,
        timing.SilentAfterEhlo,
        timing.SilentRcpt,
        timing.Drops,
        timing.DisconnectsOnRandom,
        timing.QuitsEarly,
        timing.NoPipelining,
        timing.HeloOnly,
        timing.SlowBanner,
        timing.Tarpit,
        timing.MultiLine,
    )
}
