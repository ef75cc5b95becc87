//! What the browser keeps.

use serde_json::{Value, json};

use crate::devtools::Connection;

/// A cookie as the browser shows it in its tools.
#[derive(Debug, Clone)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Begins with a dot if subdomains get the cookie too.
    pub(crate) domain: String,
    pub(crate) path: String,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: Option<String>,
    /// Seconds since 1970; `None` if the cookie ends with the browser's session.
    pub(crate) expires: Option<f64>,
    /// The site of the top-level page, if the cookie is for that site alone.
    pub(crate) partition: Option<String>,
}

impl Cookie {
    fn read(cookie: &Value) -> Self {
        let text = |name: &str| cookie[name].as_str().map(str::to_owned);
        let is = |name: &str| cookie[name].as_bool().unwrap();
        let key = &cookie["partitionKey"];
        Self {
            name: text("name").unwrap(),
            value: text("value").unwrap(),
            domain: text("domain").unwrap(),
            path: text("path").unwrap(),
            secure: is("secure"),
            http_only: is("httpOnly"),
            same_site: text("sameSite"),
            expires: (!is("session")).then(|| cookie["expires"].as_f64().unwrap()),
            partition: key["topLevelSite"].as_str().map(str::to_owned),
        }
    }

    /// The length of name, `=` and value together.
    pub(crate) fn pair_length(&self) -> usize {
        self.name.len() + 1 + self.value.len()
    }

    /// Whether the cookie belongs to this host, or to a domain above it that is not a public suffix.
    fn is_under(&self, site: &str) -> bool {
        let domain = self.domain.trim_start_matches('.');
        domain == site || domain.ends_with(&format!(".{site}"))
    }
}

/// All cookies of the browser, in all partitions.
pub(crate) struct Jar(Vec<Cookie>);

impl Jar {
    pub(crate) fn look(connection: &Connection) -> Self {
        let mut all = connection.call(None, "Storage.getCookies", &json!({}));
        let all = all["cookies"].take();
        Self(all.as_array().unwrap().iter().map(Cookie::read).collect())
    }

    /// The cookies of a site and of all hosts below it.
    pub(crate) fn of(&self, site: &str) -> Vec<&Cookie> {
        self.0
            .iter()
            .filter(|cookie| cookie.is_under(site))
            .collect()
    }
}
