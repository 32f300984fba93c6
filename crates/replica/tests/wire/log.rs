//! What does the operator read?

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::{Level, subscriber::DefaultGuard};

/// The lines at level `WARN` and above of the test's own thread, on which the machine runs too.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Log {
    pub(crate) fn start() -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let to = Arc::clone(&text);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::WARN)
            .with_ansi(false)
            .with_writer(move || Sink(Arc::clone(&to)))
            .finish();
        Log { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Ends when a line contains `words`.
    pub(crate) async fn wait_for(&self, words: &str) {
        let deadline = std::time::Instant::now() + crate::control::DEADLINE;
        while self.lines_with(words).is_empty() {
            assert!(std::time::Instant::now() < deadline, "nobody has said {words:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The lines that contain `words`.
    pub(crate) fn lines_with(&self, words: &str) -> Vec<String> {
        let text = String::from_utf8(self.text.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
