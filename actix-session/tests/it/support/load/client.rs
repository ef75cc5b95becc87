//! How users reach the site: in this thread, or through sockets, where they may hang up.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use actix_web::{cookie::Cookie, http::header::COOKIE, test::TestRequest};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::acts::{Seen, WISH, Wish};
use crate::support::{Random, Site, answer::is_removal};

/// Stands for the status if the server closes a connection without an answer.
const NO_ANSWER: u16 = 599;

/// No answer takes longer, whatever happens to the back end.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) enum Client {
    Inside(Site),
    Wire(Rc<Wire>),
}

pub(crate) struct Wire {
    address: SocketAddr,
    /// How long the last answer took that was waited for.
    usual: Cell<Duration>,
}

/// What a client knows afterwards.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Seen, NewCookie),
    Failed(u16),
    HungUp,
}

#[derive(Debug)]
pub(super) enum NewCookie {
    Unchanged,
    Removed,
    Value(String),
}

/// When a client hangs up.
enum Moment {
    Never,
    /// Once so much of the request is sent.
    Sending(usize),
    /// So long after the request.
    Waiting(Duration),
    /// Once so much of the response has come.
    Reading(usize),
}

impl Client {
    pub(crate) fn through(address: SocketAddr) -> Self {
        Self::Wire(Rc::new(Wire {
            address,
            usual: Cell::new(Duration::from_millis(5)),
        }))
    }

    pub(super) fn hangs_up(&self) -> bool {
        matches!(self, Self::Wire(_))
    }

    /// Asks. Without chance, the answer is waited for.
    pub(super) async fn ask(
        &self,
        cookie: Option<&str>,
        wish: &Wish,
        chance: Option<&mut Random>,
    ) -> Outcome {
        let asking = async {
            match self {
                Self::Inside(site) => inside(site, cookie, wish).await,
                Self::Wire(wire) => wire.ask(cookie, wish, chance).await,
            }
        };
        let outcome = timeout(LIMIT, asking).await;
        outcome.expect("an answer within bounds")
    }
}

async fn inside(site: &Site, cookie: Option<&str>, wish: &Wish) -> Outcome {
    let mut request = TestRequest::get().insert_header((WISH, json(wish)));
    if let Some(value) = cookie {
        request = request.insert_header((COOKIE, format!("id={value}")));
    }
    let answer = site.answer(request).await;
    let cookie = answer.cookie().map_or(NewCookie::Unchanged, NewCookie::of);
    read(answer.status.as_u16(), cookie, &answer.body)
}

fn json(wish: &Wish) -> String {
    serde_json::to_string(wish).unwrap()
}

fn read(status: u16, cookie: NewCookie, body: &[u8]) -> Outcome {
    match status {
        200 => Outcome::Answered(serde_json::from_slice(body).unwrap(), cookie),
        status => Outcome::Failed(status),
    }
}

impl NewCookie {
    #[expect(clippy::needless_pass_by_value, reason = "it stands behind `map`")]
    fn of(cookie: Cookie<'_>) -> Self {
        if is_removal(&cookie) {
            Self::Removed
        } else {
            Self::Value(cookie.value().to_owned())
        }
    }
}

impl Wire {
    async fn ask(&self, cookie: Option<&str>, wish: &Wish, chance: Option<&mut Random>) -> Outcome {
        let cookie = cookie.map_or_else(String::new, |value| format!("cookie: id={value}\r\n"));
        let request = format!(
            "GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{WISH}: {}\r\n{cookie}\r\n",
            json(wish)
        );
        let (moment, resets) = chance.map_or((Moment::Never, false), |random| {
            (self.moment(request.len(), random), !random.one_in(4))
        });
        let began = Instant::now();
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let response = exchange(&mut stream, request.as_bytes(), &moment).await;
        if resets {
            // Otherwise the server may go on: the client could still read.
            stream.set_zero_linger().unwrap();
        }
        if response.is_some() && matches!(moment, Moment::Never) {
            self.usual.set(began.elapsed());
        }
        match (response, moment) {
            (Some(text), _) => parse(&text),
            (None, Moment::Never) => Outcome::Failed(NO_ANSWER),
            (None, _) => Outcome::HungUp,
        }
    }

    fn moment(&self, length: usize, random: &mut Random) -> Moment {
        match random.index(8) {
            0 => Moment::Sending(random.index(length)),
            1 | 2 => {
                let most = 2 * usize::try_from(self.usual.get().as_micros()).unwrap();
                Moment::Waiting(Duration::from_micros(random.index(most.max(1)) as u64))
            }
            3 => Moment::Reading(1 + random.index(400)),
            _ => Moment::Never,
        }
    }
}

/// The whole response, unless the client hangs up before, or the server does.
async fn exchange(stream: &mut TcpStream, request: &[u8], moment: &Moment) -> Option<String> {
    let sent = match moment {
        Moment::Sending(length) => &request[..*length],
        _ => request,
    };
    stream.write_all(sent).await.ok()?;
    let mut response = Vec::new();
    match moment {
        Moment::Sending(_) => return None,
        Moment::Never => stream.read_to_end(&mut response).await.ok()?,
        Moment::Waiting(limit) => timeout(*limit, stream.read_to_end(&mut response))
            .await
            .ok()?
            .ok()?,
        Moment::Reading(length) => {
            let part = stream.take(*length as u64);
            { part }.read_to_end(&mut response).await.ok()?
        }
    };
    let text = String::from_utf8(response).ok()?;
    is_whole(&text).then_some(text)
}

fn is_whole(text: &str) -> bool {
    text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        field(head, "content-length").and_then(|length| length.parse().ok()) == Some(body.len())
    })
}

fn field<'t>(head: &'t str, wanted: &str) -> Option<&'t str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut named = fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    named.next().map(|(_, value)| value)
}

fn parse(text: &str) -> Outcome {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let cookie = field(head, "set-cookie").map(|field| Cookie::parse(field).unwrap());
    let cookie = cookie.map_or(NewCookie::Unchanged, NewCookie::of);
    read(status, cookie, body.as_bytes())
}
