//! How long is waited for what must come?

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use anyhow::Result;

/// How often something is looked at that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Long enough for anything that is promised, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// Tries until `attempt` succeeds and gives its result.
///
/// # Panics
///
/// With `what` and the last error, when `within` has passed.
pub async fn eventually<T>(
    what: impl Display,
    within: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match attempt().await {
            Ok(found) => return found,
            Err(error) if Instant::now() >= deadline => {
                panic!("not within {within:?}: {what}: {error:#}")
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
