//! A proxy before Redis that loses commands, and answers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::script::Random;

/// Runs on a thread of its own until the test ends.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    random: Mutex<Random>,
    /// Of 1,000 commands, so many are lost, or their answers.
    losses: AtomicU32,
    lost_commands: AtomicU32,
    lost_answers: AtomicU32,
}

enum Fate {
    Arrives,
    CommandLost,
    AnswerLost,
}

impl Proxy {
    pub(crate) fn before(port: u16) -> Self {
        let state = Arc::new(State {
            random: Mutex::new(Random::new(0)),
            losses: AtomicU32::new(0),
            lost_commands: AtomicU32::new(0),
            lost_answers: AtomicU32::new(0),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((client, _)) = listener.accept().await {
                    let shared = Arc::clone(&shared);
                    // A connection that breaks is what this is for.
                    tokio::spawn(async move { drop(serve(client, port, &shared).await) });
                }
            });
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn reseed(&self, seed: u64) {
        *self.state.random.lock().unwrap() = Random::new(!seed);
    }

    pub(crate) fn lose(&self, losses: u32) {
        self.state.losses.store(losses, Ordering::SeqCst);
    }

    /// A handle for another owner.
    pub(crate) fn handle(&self) -> Self {
        Self {
            address: self.address,
            state: Arc::clone(&self.state),
        }
    }

    pub(crate) fn lost_commands(&self) -> u32 {
        self.state.lost_commands.load(Ordering::SeqCst)
    }

    pub(crate) fn lost_answers(&self) -> u32 {
        self.state.lost_answers.load(Ordering::SeqCst)
    }
}

impl State {
    fn fate(&self, bytes: &[u8]) -> Fate {
        let has = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
        if has(b"CLIENT\r\n") || has(b"HELLO\r\n") {
            // A connection that is being made: without it a command is refused, not lost.
            return Fate::Arrives;
        }
        // Reads are repeated freely: losing many of them tells little.
        let writes = has(b"EVAL") || has(b"SET\r\n");
        let losses = self.losses.load(Ordering::SeqCst) / if writes { 1 } else { 8 };
        let mut random = self.random.lock().unwrap();
        if random.index(1_000) >= losses as usize {
            Fate::Arrives
        } else if random.one_in(2) {
            self.lost_commands.fetch_add(1, Ordering::SeqCst);
            Fate::CommandLost
        } else {
            self.lost_answers.fetch_add(1, Ordering::SeqCst);
            Fate::AnswerLost
        }
    }
}

async fn serve(mut client: TcpStream, port: u16, state: &State) -> std::io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let bytes = match length? {
                    0 => return Ok(()),
                    length => &asked[..length],
                };
                let fate = state.fate(bytes);
                if !matches!(fate, Fate::CommandLost) {
                    server.write_all(bytes).await?;
                }
                if !matches!(fate, Fate::Arrives) {
                    return settle(server).await;
                }
            }
            length = server.read(&mut answered) => match length? {
                0 => return Ok(()),
                length => client.write_all(&answered[..length]).await?,
            }
        }
    }
}

/// Waits until Redis has carried out what arrived there: only then the client learns that it will
/// not learn more, so that nothing happens after the answer "I do not know".
async fn settle(mut server: TcpStream) -> std::io::Result<()> {
    server.shutdown().await?;
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.map(drop)
}
