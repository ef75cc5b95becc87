//! A proxy before a server: it sees what a store sends, and loses some of it, or the answers.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::Random;

/// Runs on a thread of its own until the process ends. Clones are the same proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    port: u16,
    /// What is sent is taken apart into commands.
    is_redis: bool,
    state: Mutex<State>,
    events: Notify,
}

#[derive(Default)]
struct State {
    /// Names of the Redis commands that came.
    commands: Vec<String>,
    /// How many messages came from clients, but for signs of life.
    messages: usize,
    losses: Losses,
    /// After a loss, no new connection gets through.
    held: bool,
    lost_commands: u32,
    lost_answers: u32,
    late: Late,
}

/// What has become of a message that comes late.
#[derive(Default, PartialEq, Eq)]
enum Late {
    #[default]
    Held,
    Released,
    Done,
}

#[derive(Default)]
enum Losses {
    #[default]
    None,
    /// The answer of the next Redis command of this name.
    AnswerOf(&'static str),
    /// The answer to the next message that holds this text.
    AnswerTo(&'static str),
    /// The next message that holds this text: it comes late.
    HeldBack(&'static str),
    /// This many of 1,000 messages are lost, or their answers.
    AtRandom(u32, Random),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    CommandLost,
    AnswerLost,
    HeldBack,
}

impl Proxy {
    pub(crate) fn before_redis(port: u16) -> Self {
        Self::start(port, true)
    }

    pub(crate) fn before_database(port: u16) -> Self {
        Self::start(port, false)
    }

    fn start(port: u16, is_redis: bool) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            port,
            is_redis,
            state: Mutex::default(),
            events: Notify::new(),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(accept(listener, served));
        });
        Self { address, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn redis_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The Redis commands since this was asked last: each is one round trip.
    pub(crate) fn commands(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().commands)
    }

    /// How many messages clients have sent since this was asked last: each waits for its answer, so that each
    /// is one round trip. Signs of life are none: whether there are any depends on how much time has passed.
    pub(crate) fn messages(&self) -> usize {
        std::mem::take(&mut self.shared.state().messages)
    }

    /// The answer of the next such Redis command gets lost, and whoever sent it cannot ask again
    /// before [`let_through`](Self::let_through).
    pub(crate) fn lose_answer_of(&self, command: &'static str) {
        let mut state = self.shared.state();
        state.losses = Losses::AnswerOf(command);
        state.held = true;
    }

    /// The answer to the next message that holds this text gets lost.
    pub(crate) fn lose_answer_to(&self, text: &'static str) {
        self.shared.state().losses = Losses::AnswerTo(text);
    }

    /// The next message that holds this text counts as lost, and arrives when
    /// [`deliver`](Self::deliver) is called.
    pub(crate) fn hold_back(&self, text: &'static str) {
        let mut state = self.shared.state();
        state.losses = Losses::HeldBack(text);
        state.late = Late::Held;
    }

    /// Lets the server have what was held back, and waits until it has been carried out.
    pub(crate) async fn deliver(&self) {
        assert!(self.has_lost(), "nothing was held back");
        self.shared.state().late = Late::Released;
        self.shared.events.notify_waiters();
        self.shared.until(|state| state.late == Late::Done).await;
    }

    /// From now on this many of 1,000 messages are lost, or their answers; the seed says which.
    pub(crate) fn lose_at_random(&self, losses: u32, seed: u64) {
        let mut state = self.shared.state();
        state.losses = Losses::AtRandom(losses, Random::new(seed));
        state.commands.clear();
    }

    /// Nothing gets lost from now on.
    pub(crate) fn lose_nothing(&self) {
        self.shared.state().losses = Losses::None;
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.shared.state().has_lost()
    }

    /// Waits until the answer is lost, hence the command carried out.
    pub(crate) async fn lost(&self) {
        self.shared.until(State::has_lost).await;
    }

    pub(crate) fn let_through(&self) {
        self.shared.state().held = false;
        self.shared.events.notify_waiters();
    }

    pub(crate) fn lost_commands(&self) -> u32 {
        self.shared.state().lost_commands
    }

    pub(crate) fn lost_answers(&self) -> u32 {
        self.shared.state().lost_answers
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let notified = self.events.notified();
            if holds(&self.state()) {
                return;
            }
            notified.await;
        }
    }

    /// What was to be lost once is lost.
    fn settled(&self) {
        let mut state = self.state();
        if !matches!(state.losses, Losses::AtRandom(..)) {
            state.losses = Losses::None;
        }
        self.events.notify_waiters();
    }
}

impl State {
    fn has_lost(&self) -> bool {
        matches!(self.losses, Losses::None)
    }

    fn is_open(&self) -> bool {
        !self.held || !self.has_lost()
    }

    fn fate_of(&mut self, bytes: &[u8], names: Vec<String>) -> Fate {
        let fate = self.losses.fate_of(bytes, &names);
        match fate {
            Fate::Arrives => {}
            Fate::CommandLost => self.lost_commands += 1,
            Fate::AnswerLost => self.lost_answers += 1,
            Fate::HeldBack => {}
        }
        self.messages += usize::from(!is_sign_of_life(bytes));
        let own = names.into_iter().filter(|name| !connects(name));
        self.commands.extend(own);
        fate
    }
}

/// What `sqlx` sends to MySQL and to PostgreSQL when a connection has been used, and before it uses one that was
/// idle. No request waits for the first.
fn is_sign_of_life(bytes: &[u8]) -> bool {
    bytes == [1, 0, 0, 0, 0x0e] || bytes == b"S\0\0\0\x04" || holds(bytes, b"SQLx ping")
}

/// Commands by which a client introduces itself; the store does not send them.
fn connects(name: &str) -> bool {
    name == "CLIENT" || name == "HELLO"
}

impl Losses {
    fn fate_of(&mut self, bytes: &[u8], names: &[String]) -> Fate {
        let lost = match self {
            Self::None => false,
            Self::AnswerOf(command) => names.iter().any(|name| name == command),
            Self::AnswerTo(text) => holds(bytes, text.as_bytes()),
            Self::HeldBack(text) if holds(bytes, text.as_bytes()) => return Fate::HeldBack,
            Self::HeldBack(_) => false,
            Self::AtRandom(losses, random) => return at_random(*losses, random, names),
        };
        if lost {
            Fate::AnswerLost
        } else {
            Fate::Arrives
        }
    }
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|part| part == text)
}

fn at_random(losses: u32, random: &mut Random, names: &[String]) -> Fate {
    // Without these the connection is not made, and a command is refused instead of lost.
    if names.iter().any(|name| connects(name)) {
        return Fate::Arrives;
    }
    // Reads are repeated freely: losing many of them shows little.
    let writes = names.iter().any(|n| n.starts_with("EVAL") || n == "SET");
    let losses = losses / if writes { 1 } else { 8 };
    if random.index(1_000) >= losses as usize {
        Fate::Arrives
    } else if random.one_in(2) {
        Fate::CommandLost
    } else {
        Fate::AnswerLost
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // A connection that breaks is what this is for.
        tokio::spawn(async move { drop(serve(client, &shared).await) });
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    shared.until(State::is_open).await;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut pending = Vec::new();
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let bytes = match length? {
                    0 => return Ok(()),
                    length => &asked[..length],
                };
                if shared.is_redis {
                    pending.extend_from_slice(bytes);
                }
                let fate = shared.state().fate_of(bytes, commands(&mut pending));
                if fate == Fate::HeldBack {
                    drop(client);
                    return bring_late(server, bytes, shared).await;
                }
                if fate != Fate::CommandLost {
                    server.write_all(bytes).await?;
                }
                if fate != Fate::Arrives {
                    let settled = settle(server).await;
                    shared.settled();
                    return settled;
                }
            }
            length = server.read(&mut answered) => match length? {
                0 => return Ok(()),
                length => client.write_all(&answered[..length]).await?,
            }
        }
    }
}

/// Hands the server what its sender has given up for lost, when a test says so.
async fn bring_late(mut server: TcpStream, bytes: &[u8], shared: &Shared) -> io::Result<()> {
    shared.settled();
    shared.until(|state| state.late == Late::Released).await;
    server.write_all(bytes).await?;
    let settled = settle(server).await;
    shared.state().late = Late::Done;
    shared.events.notify_waiters();
    settled
}

/// Waits until the server has carried out what arrived there. Only then does the client learn that
/// it will not learn more, so that nothing happens after the answer "I do not know".
async fn settle(mut server: TcpStream) -> io::Result<()> {
    server.shutdown().await?;
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.map(drop)
}

/// Takes the commands that are there as a whole, and names them.
fn commands(pending: &mut Vec<u8>) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((name, used)) = command(pending) {
        pending.drain(..used);
        names.push(name);
    }
    names
}

/// The name of the first command, and its length.
fn command(bytes: &[u8]) -> Option<(String, usize)> {
    let (count, mut at) = number(bytes, 0, b'*')?;
    let mut name = None;
    for _ in 0..count {
        let (length, start) = number(bytes, at, b'$')?;
        let part = bytes.get(start..start + length)?;
        bytes.get(start + length..start + length + 2)?;
        name.get_or_insert_with(|| String::from_utf8_lossy(part).to_uppercase());
        at = start + length + 2;
    }
    Some((name?, at))
}

fn number(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    assert!(rest.is_empty() || rest[0] == kind, "not RESP");
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let text = std::str::from_utf8(&rest[1..end]).unwrap();
    Some((text.parse().unwrap(), at + end + 2))
}
