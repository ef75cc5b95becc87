//! Something before a server that cuts the line on which ends are told, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens to connections on which somebody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// All goes through.
    Whole,
    /// They are closed, and so is each new one.
    Closed,
    /// They stay open, and nothing comes through.
    Silent,
}

/// Clones are the same proxy.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    /// Where it listens on loopback.
    pub(crate) port: u16,
    line: Arc<AtomicU8>,
}

impl Proxy {
    /// Starts one on the runtime of whoever calls.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) async fn before(server: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let proxy = Self {
            port: listener.local_addr()?.port(),
            line: Arc::default(),
        };
        let line = Arc::clone(&proxy.line);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let line = Arc::clone(&line);
                tokio::spawn(async move { pass(client, server, &line).await });
            }
        });
        Ok(proxy)
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.store(line as u8, Ordering::SeqCst);
    }
}

fn is(line: &AtomicU8, wanted: Line) -> bool {
    line.load(Ordering::SeqCst) == wanted as u8
}

/// `None`: a side is gone, or it is cut.
async fn pass(mut client: TcpStream, server: u16, line: &AtomicU8) -> Option<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut listens = false;
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let bytes = &asked[..length.ok().filter(|length| *length > 0)?];
                listens |= begins_to_listen(bytes);
                server.write_all(bytes).await.ok()?;
            }
            length = server.read(&mut answered) => {
                let bytes = &answered[..length.ok().filter(|length| *length > 0)?];
                if !(listens && is(line, Line::Silent)) {
                    client.write_all(bytes).await.ok()?;
                }
            }
            () = tokio::time::sleep(Duration::from_millis(20)), if listens => {}
        }
        if listens && is(line, Line::Closed) {
            return None;
        }
    }
}

/// Whether this is what Redis or PostgreSQL is told by whoever listens.
fn begins_to_listen(bytes: &[u8]) -> bool {
    let holds = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
    holds(b"SUBSCRIBE") || holds(b"LISTEN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_known() {
        assert!(begins_to_listen(b"*2\r\n$9\r\nSUBSCRIBE\r\n"));
        assert!(begins_to_listen(b"Q...LISTEN \"a\""));
        assert!(!begins_to_listen(b"SELECT 1"));
    }
}
