//! Waiting for a condition: never for a time.

use std::time::{Duration, Instant};

use super::error::ProcessError;

/// How long anything may take on a busy machine before one gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T, ProcessError> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(ProcessError::Waited { what: what.to_owned(), limit });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
