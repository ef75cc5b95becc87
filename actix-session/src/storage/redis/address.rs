//! Addresses: what a URL says about servers, and what the settings add.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, bail};
use redis::{Client, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

use super::{conn::Target, pool::Pool, tls};

const HINT: &str = "the Redis address must be a URL such as redis://127.0.0.1:6379 (rediss:// \
                    needs the feature redis-session-rustls-ring or redis-session-native-tls; percent-encode \
                    users and passwords, or set them by `username` and `password`)";
const SENTINEL_HINT: &str = "a Sentinel address must end with the master's name, as in \
                             redis+sentinel://host1:26379,host2:26379/mymaster";

/// The port of a sentinel whose URL has no port.
const SENTINEL_PORT: u16 = 26_379;

/// Where the sessions are, in the application's words.
pub(super) enum Address {
    Url(String),
    Cluster(Vec<String>),
    Sentinel {
        nodes: Vec<String>,
        master: String,
    },
    #[allow(dead_code, reason = "a build without pools makes none")]
    Pool(Pool),
}

/// What the settings say about every server.
#[derive(Default)]
pub(super) struct Access {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: Option<i64>,
    /// User and password for the sentinels.
    pub(super) sentinel: Option<(Option<String>, String)>,
    pub(super) tls: Files,
}

impl Address {
    pub(super) fn resolve(self, access: &Access) -> anyhow::Result<Target> {
        match self {
            Self::Url(url) => resolve_url(&url, access),
            Self::Cluster(urls) => cluster(&urls, access),
            Self::Sentinel { nodes, master } => {
                let nodes = sentinels(&nodes, access)?;
                let data = nodes.first().context("an address must name a sentinel")?;
                let settings = RedisConnectionInfo::default();
                let data = access.log_in(data.clone().set_redis_settings(settings));
                Ok(Target::Sentinel {
                    nodes,
                    master,
                    data,
                })
            }
            Self::Pool(_) if access.is_set() => {
                bail!("set user, password, database and TLS on the pool, not on the store")
            }
            Self::Pool(pool) => Ok(Target::Pool(pool)),
        }
    }
}

/// `redis://`, or a form with several hosts: `redis+cluster://[user:password@]host:port,...` or
/// `redis+sentinel://[user:password@]host:port,.../master[/database]`.
fn resolve_url(url: &str, access: &Access) -> anyhow::Result<Target> {
    // `unix:/path` has one slash.
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    match scheme.split_once('+') {
        Some((base, "cluster")) => {
            let parts = Parts::of(base, rest)?;
            cluster(&parts.urls(None), access)
        }
        Some((base, "sentinel")) => sentinel(&Parts::of(base, rest)?, access),
        _ => Ok(Target::Server(access.log_in(one(url, &access.tls)?))),
    }
}

/// User and password of the URL are for the data servers.
fn sentinel(parts: &Parts<'_>, access: &Access) -> anyhow::Result<Target> {
    let (master, database) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    if master.is_empty() {
        bail!(SENTINEL_HINT);
    }
    let database = match database {
        "" => 0,
        number => number.parse().context("the database must be a number")?,
    };
    let like = parts.urls(Some(SENTINEL_PORT));
    let data = one(like.first().context(SENTINEL_HINT)?, &access.tls)?;
    let settings = data.redis_settings().clone().set_db(database);
    let data = access.log_in(data.set_redis_settings(settings));
    let nodes = Parts { user: "", ..*parts }.urls(Some(SENTINEL_PORT));
    Ok(Target::Sentinel {
        nodes: sentinels(&nodes, access)?,
        master: master.to_owned(),
        data,
    })
}

fn cluster(urls: &[String], access: &Access) -> anyhow::Result<Target> {
    let nodes = urls.iter().map(|url| {
        let node = one(url, &access.tls)?;
        Ok(access.log_in(node))
    });
    let nodes = nodes.collect::<anyhow::Result<Vec<_>>>()?;
    if nodes.is_empty() {
        bail!("the address of a cluster must name a node");
    }
    Ok(Target::Cluster(nodes))
}

fn sentinels(urls: &[String], access: &Access) -> anyhow::Result<Vec<ConnectionInfo>> {
    urls.iter()
        .map(|url| {
            let node = one(url, &access.tls)?;
            let settings = node.redis_settings().clone().set_db(0);
            Ok(node.set_redis_settings(match &access.sentinel {
                None => settings,
                Some((None, password)) => settings.set_password(password),
                Some((Some(user), password)) => settings.set_username(user).set_password(password),
            }))
        })
        .collect()
}

/// One server's URL, with the certificates.
fn one(url: &str, files: &Files) -> anyhow::Result<ConnectionInfo> {
    let url = with_loopback(url);
    let info = url.as_str().into_connection_info().context(HINT)?;
    // Fails if this build cannot connect to addresses of this kind.
    let info = Client::open(info)
        .context(HINT)?
        .get_connection_info()
        .clone();
    tls::with_files(info, files)
}

/// Systems connect to the address that stands for all of their own as to the loopback. The client library of
/// version 1 refuses it, which earlier ones did not.
fn with_loopback(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let begin = authority.rfind('@').map_or(0, |at| at + 1);
    let (user, server) = authority.split_at(begin);
    let port = match server.find(']') {
        Some(end) => end + 1,
        None => server.find(':').unwrap_or(server.len()),
    };
    let (host, port) = server.split_at(port);
    let loopback = match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => "127.0.0.1",
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => "[::1]",
        _ => return url.to_owned(),
    };
    format!("{scheme}://{user}{loopback}{port}{path}")
}

impl Access {
    fn is_set(&self) -> bool {
        self.username.is_some()
            || self.password.is_some()
            || self.database.is_some()
            || self.tls.is_set()
    }

    /// Settings take precedence over the URL.
    fn log_in(&self, info: ConnectionInfo) -> ConnectionInfo {
        let mut settings = info.redis_settings().clone();
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        if let Some(database) = self.database {
            settings = settings.set_db(database);
        }
        info.set_redis_settings(settings)
    }
}

/// The parts of a URL with several hosts.
struct Parts<'a> {
    base: &'a str,
    /// With its `@`.
    user: &'a str,
    hosts: &'a str,
    path: &'a str,
    /// With its `?`, and a fragment with its `#`.
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(base: &'a str, rest: &'a str) -> anyhow::Result<Self> {
        let (rest, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let (user, rest) = rest.split_at(rest.rfind('@').map_or(0, |at| at + 1));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.is_empty() {
            bail!(HINT);
        }
        Ok(Self {
            base,
            user,
            hosts,
            path,
            query,
        })
    }

    /// One URL for each host. A host without a port gets this one.
    fn urls(&self, port: Option<u16>) -> Vec<String> {
        let Self {
            base, user, query, ..
        } = self;
        let hosts = self.hosts.split(',').map(str::trim);
        hosts
            .filter(|host| !host.is_empty())
            .map(|host| match port {
                Some(port) if !has_port(host) => format!("{base}://{user}{host}:{port}{query}"),
                _ => format!("{base}://{user}{host}{query}"),
            })
            .collect()
    }
}

/// A colon inside the brackets of an IPv6 address does not start a port.
fn has_port(host: &str) -> bool {
    host.rsplit(']')
        .next()
        .is_some_and(|rest| rest.contains(':'))
}

/// Certificates and a key as PEM.
#[derive(Clone, Default)]
pub(super) struct Files {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    pub(super) const fn is_set(&self) -> bool {
        self.ca.is_some() || self.client.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str) -> anyhow::Result<Target> {
        Address::Url(url.to_owned()).resolve(&Access::default())
    }

    fn shown(info: &ConnectionInfo) -> String {
        let redis = info.redis_settings();
        let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
        format!(
            "{} {} {} {}",
            info.addr(),
            or_none(redis.username()),
            or_none(redis.password()),
            redis.db()
        )
    }

    #[test]
    fn one_server() {
        let Target::Server(info) = resolve("redis://me:p%40ss@host:7000/3").unwrap() else {
            panic!("one server");
        };
        assert_eq!(shown(&info), "host:7000 me p@ss 3");
    }

    #[test]
    #[cfg(unix)]
    fn a_socket() {
        for url in ["unix:/run/redis.sock", "unix:///run/redis.sock"] {
            let Target::Server(info) = resolve(url).unwrap() else {
                panic!("one server");
            };
            assert_eq!(shown(&info), "/run/redis.sock - - 0");
        }
    }

    #[test]
    fn a_cluster() {
        let Target::Cluster(nodes) = resolve("redis+cluster://me:pw@a:1,b:2, [::1]:3").unwrap()
        else {
            panic!("a cluster");
        };
        let nodes: Vec<String> = nodes.iter().map(shown).collect();
        assert_eq!(nodes, ["a:1 me pw 0", "b:2 me pw 0", "::1:3 me pw 0"]);
    }

    #[test]
    fn sentinels_with_and_without_ports() {
        let Target::Sentinel {
            nodes,
            master,
            data,
        } = resolve("redis+sentinel://me:pw@a,b:2,[::1]/main/5").unwrap()
        else {
            panic!("sentinels");
        };
        let nodes: Vec<String> = nodes.iter().map(shown).collect();
        assert_eq!(nodes, ["a:26379 - - 0", "b:2 - - 0", "::1:26379 - - 0"]);
        assert_eq!(master, "main");
        assert!(shown(&data).ends_with("me pw 5"));
    }

    #[test]
    fn a_query_and_a_fragment_are_for_each_host() {
        let parts = Parts::of("rediss", "me:pw@a,b:2/main/5?protocol=resp3#insecure").unwrap();
        assert_eq!(parts.path, "main/5");
        assert_eq!(
            parts.urls(Some(1)),
            [
                "rediss://me:pw@a:1?protocol=resp3#insecure",
                "rediss://me:pw@b:2?protocol=resp3#insecure",
            ]
        );
        let parts = Parts::of("rediss", "a:1/#insecure").unwrap();
        assert_eq!(parts.urls(None), ["rediss://a:1#insecure"]);
    }

    #[test]
    fn settings_come_before_the_url() {
        let access = Access {
            username: Some("you".into()),
            password: Some("other".into()),
            database: Some(2),
            sentinel: Some((None, "guard".into())),
            ..Access::default()
        };
        let url = Address::Url("redis://me:pw@a:1/3".into());
        let Target::Server(info) = url.resolve(&access).unwrap() else {
            panic!("one server");
        };
        assert_eq!(shown(&info), "a:1 you other 2");
        let nodes = vec!["redis://x:y@a:1".to_owned()];
        let master = "m".to_owned();
        let target = Address::Sentinel { nodes, master }.resolve(&access);
        let Target::Sentinel { nodes, data, .. } = target.unwrap() else {
            panic!("sentinels");
        };
        assert_eq!(shown(&nodes[0]), "a:1 x guard 0");
        assert!(shown(&data).ends_with("you other 2"));
    }

    #[test]
    fn the_address_of_all_interfaces_is_the_loopback() {
        for (url, meant) in [
            ("redis://0.0.0.0", "redis://127.0.0.1"),
            ("redis://a:b@0.0.0.0:6380/2", "redis://a:b@127.0.0.1:6380/2"),
            ("redis://[0::0]", "redis://[::1]"),
            ("rediss://[::]:1/?x=0.0.0.0", "rediss://[::1]:1/?x=0.0.0.0"),
            (
                "redis://0.0.0.0.example.com/",
                "redis://0.0.0.0.example.com/",
            ),
            ("redis://:0.0.0.0@localhost", "redis://:0.0.0.0@localhost"),
            ("unix:/0.0.0.0", "unix:/0.0.0.0"),
        ] {
            assert_eq!(with_loopback(url), meant);
        }
    }

    #[test]
    fn invalid_addresses_are_refused() {
        for url in [
            "",
            "127.0.0.1:6379",
            "http://a:1",
            "redis+cluster://",
            "redis+cluster://a:x",
            "redis+sentinel://a:1",
            "redis+sentinel://a:1/main/x",
            "redis+other://a:1",
        ] {
            assert!(resolve(url).is_err(), "{url}");
        }
    }
}
