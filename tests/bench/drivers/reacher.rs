//! Reacher's verifier as its documentation shows it. `peer FILE AT_ONCE`: FILE is a JSON array of addresses; prints how
//! long it took and how many were found to be safe.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Instant;

use check_if_email_exists::smtp::verif_method::{EverythingElseVerifMethod, VerifMethod, VerifMethodSmtpConfig};
use check_if_email_exists::{check_email, CheckEmailInputBuilder, Reachable};

async fn is_safe(email: &str) -> bool {
    let config = VerifMethodSmtpConfig {
        from_email: "probe@probe.test".into(),
        hello_name: "probe.test".into(),
        ..Default::default()
    };
    let input = CheckEmailInputBuilder::default()
        .to_email(email.into())
        .verif_method(VerifMethod {
            everything_else: EverythingElseVerifMethod::Smtp(config),
            ..Default::default()
        })
        .build()
        .expect("a complete input");
    check_email(&input).await.is_reachable == Reachable::Safe
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&arguments[1]).expect("a file");
    let emails: Arc<Vec<String>> = Arc::new(serde_json::from_str(&text).expect("an array of addresses"));
    let at_once: usize = arguments[2].parse().expect("a number");
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let workers: Vec<_> = (0..at_once)
        .map(|_| {
            let (emails, next) = (emails.clone(), next.clone());
            tokio::spawn(async move {
                let mut valid = 0;
                while let Some(email) = emails.get(next.fetch_add(1, Relaxed)) {
                    valid += usize::from(is_safe(email).await);
                }
                valid
            })
        })
        .collect();
    let mut valid = 0;
    for worker in workers {
        valid += worker.await.expect("a worker that ends well");
    }
    println!("{{\"seconds\": {:.6}, \"valid\": {valid}}}", started.elapsed().as_secs_f64());
}
