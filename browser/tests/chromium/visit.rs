//! Visits, and the responses to them.

use serde_json::{Value, json};

use crate::{
    devtools::{Connection, Page},
    server::Server,
};

/// What a response says about the request and the session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: u64,
    /// The names of the cookies that came.
    pub(crate) came: Vec<String>,
    pub(crate) n: Option<u64>,
    pub(crate) who: Option<String>,
    /// The length of a text.
    pub(crate) text: Option<u64>,
}

impl Seen {
    /// What the page that the browser went to shows.
    pub(crate) fn on(page: &Page) -> Self {
        Self::read(200, &page.text())
    }

    fn read(status: u64, text: &str) -> Self {
        let Ok(seen) = serde_json::from_str::<Value>(text) else {
            assert_ne!(status, 200, "{text}");
            return Self {
                status,
                ..Self::default()
            };
        };
        let came = seen["came"].as_array().into_iter().flatten();
        Self {
            status,
            came: came.map(|name| name.as_str().unwrap().to_owned()).collect(),
            n: seen["n"].as_u64(),
            who: seen["who"].as_str().map(str::to_owned),
            text: seen["text"].as_u64(),
        }
    }

    /// The request carried no cookie, and the session was empty.
    pub(crate) fn is_nobody(&self) -> bool {
        *self
            == Self {
                status: 200,
                ..Self::default()
            }
    }
}

/// A page whose script requests addresses, many at once.
pub(crate) struct Driver {
    pub(crate) page: Page,
    script: &'static str,
}

impl Driver {
    /// The script runs in a top-level page of this host.
    pub(crate) fn on_top(connection: &Connection, address: &str) -> Self {
        let page = Page::open(connection);
        page.goto(address);
        Self {
            page,
            script: "here",
        }
    }

    /// The script runs in a frame in a page of another host.
    pub(crate) fn within(connection: &Connection, top: &str, frame: &str) -> Self {
        let page = Page::open(connection);
        let address = Server::shared().https(top, &format!("/driver?frame={}", encode(frame)));
        page.goto(&address);
        Self {
            page,
            script: "inside",
        }
    }

    /// Requests all addresses at once; the responses are in the order of the addresses.
    pub(crate) fn ask(&self, addresses: &[String]) -> Vec<Seen> {
        if addresses.is_empty() {
            return Vec::new();
        }
        let script = format!("{}({})", self.script, json!(addresses));
        let answers = self.page.evaluate(&script);
        let answers = answers.as_array().unwrap();
        assert_eq!(answers.len(), addresses.len());
        let read = |answer: &Value| {
            let status = answer["status"].as_u64().unwrap();
            Seen::read(status, answer["text"].as_str().unwrap())
        };
        answers.iter().map(read).collect()
    }

    pub(crate) fn ask_one(&self, address: &str) -> Seen {
        self.ask(&[address.to_owned()]).remove(0)
    }
}

/// Encodes a text for use inside a query.
pub(crate) fn encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let octets = text.bytes().map(|byte| {
        if keep(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    octets.collect()
}
