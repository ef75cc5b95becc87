//! The command on real stores, beside an application that makes the sessions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

use actix_session::{
    Login, Session, SessionMiddleware,
    storage::{
        PostgresSessionStore, RedisSessionStore, SessionKey, SessionStore, SqliteSessionStore,
        generate_session_key,
    },
};
use actix_web::{
    App, HttpResponse,
    cookie::{Cookie, CookieJar, Key},
    dev::ServiceResponse,
    test, web,
};
use servers::{PostgresServer, RedisServer};

const USER: &str = "ada@example.org";
const DEVICE: &str = "Ada's \u{1b}[2Jphone\u{202e}";

/// An application and the words that lead the command to its store.
struct Site<S> {
    store: S,
    key: Key,
    url: String,
    options: Vec<String>,
}

impl<S: SessionStore + Clone + 'static> Site<S> {
    fn new(store: S, url: &str, options: &[&str]) -> Self {
        Self {
            store,
            key: Key::generate(),
            url: url.to_owned(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    async fn ask(&self, path: &str, cookie: Option<Cookie<'static>>) -> ServiceResponse {
        let middleware = SessionMiddleware::new(self.store.clone(), self.key.clone());
        let app = App::new()
            .wrap(middleware)
            .route("/login/{user}", web::get().to(log_in))
            .route("/who", web::get().to(who));
        let app = test::init_service(app).await;
        let mut request = test::TestRequest::get().uri(path);
        if let Some(cookie) = cookie {
            request = request.cookie(cookie);
        }
        test::call_service(&app, request.to_request())
            .await
            .map_into_boxed_body()
    }

    async fn log_in(&self, user: &str) -> Cookie<'static> {
        let response = self.ask(&format!("/login/{user}"), None).await;
        let cookie = response.response().cookies().next().unwrap();
        cookie.into_owned()
    }

    async fn who(&self, cookie: &Cookie<'static>) -> String {
        let response = self.ask("/who", Some(cookie.clone())).await;
        let body = test::read_body(response).await;
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// A cookie whose value says this to whoever has the secret key.
    fn sealed(&self, text: &str) -> Cookie<'static> {
        let mut jar = CookieJar::new();
        let cookie = Cookie::new("id", text.to_owned());
        jar.private_mut(&self.key).add(cookie);
        jar.get("id").unwrap().clone()
    }

    /// What a cookie's value says.
    fn opened(&self, cookie: &Cookie<'static>) -> String {
        let mut jar = CookieJar::new();
        jar.add_original(cookie.clone());
        jar.private(&self.key).get("id").unwrap().value().to_owned()
    }

    /// Runs the command, and reads what it says.
    fn run(&self, words: &[&str]) -> (i32, String) {
        let mut command = sessions();
        command
            .env("SESSION_STORE", &self.url)
            .args(words)
            .args(&self.options);
        read(&command.output().unwrap())
    }

    fn done(&self, words: &[&str]) -> String {
        let (code, text) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {text}");
        let is_shown = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(text.chars().all(is_shown), "{text:?}");
        text
    }
}

async fn log_in(session: Session, user: web::Path<String>) -> actix_web::Result<HttpResponse> {
    let login = Login::new(user.into_inner())
        .device(DEVICE)
        .method("passkey");
    session.login_with(login.address([192, 0, 2, 7].into()))?;
    Ok(HttpResponse::Ok().finish())
}

async fn who(session: Session) -> String {
    session.principal().unwrap_or_default()
}

fn sessions() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessions"));
    command.env_remove("SESSION_STORE");
    command
}

fn read(output: &Output) -> (i32, String) {
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    (output.status.code().unwrap(), texts.concat())
}

fn random_name(prefix: &str) -> String {
    format!("{prefix}{}", &generate_session_key().as_ref()[..16])
}

#[actix_web::test]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("file").display());
    let store = SqliteSessionStore::new(&url).await.unwrap();
    let site = Site::new(store, &url, &[]);
    lists_and_ends(&site).await;
    assert!(site.done(&["stats"]).contains("of users       1\n"));
    assert_eq!(site.done(&["sweep"]), "0 expired rows are deleted\n");
    let (code, text) = site.run(&["list", USER, "--table", "others"]);
    assert_eq!(code, 3, "{text}");
    assert_eq!(text.matches("the session table may be missing").count(), 1);
}

/// However its name is written, and whatever the application's address says.
#[actix_web::test]
async fn no_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    for name in [
        "file", "a file", "a%20file", "a:file", "a%3Afile", "a%2Ffile",
    ] {
        for url in [
            format!("sqlite://{path}/{name}"),
            format!("sqlite:{path}/{name}?mode=rwc"),
        ] {
            let mut command = sessions();
            command.args(["list", USER, "--store", &url]);
            let (code, text) = read(&command.output().unwrap());
            assert_eq!(code, 3, "{url}: {text}");
            assert!(text.contains("there is no file"), "{url}: {text}");
            assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{url}");
        }
    }
    let empty = folder.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    let url = format!("sqlite://{}", empty.display());
    let mut command = sessions();
    command.args(["list", USER, "--store", &url]);
    assert_eq!(read(&command.output().unwrap()).0, 3);
    assert_eq!(std::fs::read(&empty).unwrap(), b"", "it was changed");
}

#[actix_web::test]
async fn on_redis() {
    let (url, prefix) = (RedisServer::shared_url().unwrap(), random_name("test:"));
    let builder = || RedisSessionStore::builder(&url).key_prefix(&prefix);
    let site = Site::new(
        builder().build().await.unwrap(),
        &url,
        &["--prefix", &prefix],
    );
    lists_and_ends(&site).await;
    assert!(site.done(&["stats"]).contains("live sessions  not known\n"));
    assert!(site.done(&["sweep"]).contains("by itself"));
    let store = builder().hashed_keys().build().await.unwrap();
    let hashed = Site::new(store, &url, &["--prefix", &prefix, "--hashed-keys"]);
    hashed.log_in("hedy").await;
    assert_eq!(hashed.done(&["end-user", "hedy"]), "1 session has ended\n");
}

#[actix_web::test]
async fn on_postgres() {
    let (url, table) = (PostgresServer::shared_url().unwrap(), random_name("test_"));
    let builder = PostgresSessionStore::builder(&url).table(&table);
    let site = Site::new(builder.build().await.unwrap(), &url, &["--table", &table]);
    lists_and_ends(&site).await;
    assert!(site.done(&["stats", "--json"]).contains("\"of_users\": 1"));
}

/// Leaves one session of another user.
async fn lists_and_ends<S: SessionStore + Clone + 'static>(site: &Site<S>) {
    assert_eq!(site.done(&["list", USER]), "no sessions\n");
    let [first, second, third] = [
        site.log_in(USER).await,
        site.log_in(USER).await,
        site.log_in(USER).await,
    ];
    let other = site.log_in("bob").await;
    let list = site.done(&["list", USER]);
    assert_eq!(list.lines().count(), 4, "{list}");
    for shown in ["passkey", "192.0.2.0/24", "Ada's \\u{1b}[2Jphone\\u{202e}"] {
        assert!(list.contains(shown), "{list}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&site.done(&["list", USER, "--json"])).unwrap();
    assert_eq!(json[0]["device"], DEVICE);
    // The command does not know the application's idle timeout.
    assert!(json[0].get("last_seen").is_none(), "{json}");
    let handle = json[2]["handle"].as_str().unwrap();
    let shown = site.done(&["show", USER, handle]);
    assert!(shown.contains("192.0.2.0/24"), "{shown}");
    assert!(shown.contains("last seen      -\n"), "{shown}");
    let exported = site.done(&["export", USER]);
    assert!(!exported.contains(handle), "{exported}");
    let told: serde_json::Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(told.as_array().unwrap().len(), 3);
    for (name, value) in [("device", DEVICE), ("address", "192.0.2.0/24")] {
        assert_eq!(told[2][name], value);
    }
    let texts = [
        &list,
        &shown,
        &exported,
        &json.to_string(),
        &site.done(&["stats"]),
    ];
    let texts = texts.map(String::from);
    opens_nothing(site, &texts.concat(), &first).await;

    for words in [["show", "bob", handle], ["end", "bob", handle]] {
        assert_eq!(site.run(&words).0, 1, "another user's");
    }
    site.done(&["end", USER, handle]);
    assert_eq!(site.run(&["end", USER, handle]).0, 1);
    let who = [
        site.who(&first).await,
        site.who(&second).await,
        site.who(&third).await,
    ];
    assert_eq!(who.iter().filter(|who| *who == USER).count(), 2);
    assert_eq!(site.done(&["end-user", USER]), "2 sessions have ended\n");
    for ended in [&first, &second, &third] {
        assert_eq!(site.who(ended).await, "");
    }
    assert_eq!(site.who(&other).await, "bob");
    erases(site).await;
}

async fn erases<S: SessionStore + Clone + 'static>(site: &Site<S>) {
    assert_eq!(site.done(&["export", "nobody"]), "[]\n");
    let carol = site.log_in("carol").await;
    let text = site.done(&["erase", "carol"]);
    assert_eq!(text, "1 session has ended\nthe user is erased\n");
    assert_eq!(site.who(&carol).await, "");
    assert_eq!(site.done(&["export", "carol"]), "[]\n");
    let text = site.done(&["erase", "carol"]);
    assert!(text.starts_with("0 sessions have ended\n"), "{text}");
}

/// No word of the text is a cookie, a key, or what a cookie seals, even for whoever has the secret key.
async fn opens_nothing<S: SessionStore + Clone + 'static>(
    site: &Site<S>,
    text: &str,
    genuine: &Cookie<'static>,
) {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || "\"',:{}[]".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    assert!(words.len() > 40, "{text}");
    // What the genuine one seals opens the session again, so that the seal is the right one.
    let key = site.opened(genuine);
    assert_eq!(site.who(&site.sealed(&key)).await, USER);
    assert!(!text.contains(&key));
    for word in words {
        for cookie in [Cookie::new("id", word.to_owned()), site.sealed(word)] {
            assert_eq!(site.who(&cookie).await, "", "{word}");
        }
        let Ok(key) = SessionKey::try_from(word.to_owned()) else {
            continue;
        };
        let loaded = site.store.load(&key).await.unwrap();
        assert!(loaded.is_none(), "{word}");
    }
}

#[actix_web::test]
async fn a_failure_says_why_and_shows_no_password() {
    for (words, code, says) in [
        (&["list", USER][..], 2, "SESSION_STORE"),
        (&["lst"], 2, "the command `lst` is unknown"),
        (&["stats", "--store", "sqlite::memory:"], 2, "in memory"),
        (&["list", "--", "\u{1b}[2J", "x"], 2, "one too many"),
        (
            &["stats", "--store", "redis://me:hunter2@x:y"],
            2,
            "the Redis address must be",
        ),
        (
            &["stats", "--store", "redis+sentinel://me:hunter2@x"],
            2,
            "the master's name",
        ),
        (
            &["stats", "--store", "postgres://me:hunter2@x:y/z"],
            2,
            "cannot be parsed",
        ),
        (
            &["stats", "--store", "mysql://me:hunter2@x:99999/z"],
            2,
            "cannot be parsed",
        ),
        (
            &["stats", "--store", "sqlite://file?mode=some"],
            2,
            "cannot be parsed",
        ),
        (
            &["stats", "--store", "redis://me:hunter2@127.0.0.1:1"],
            3,
            "the store cannot be opened",
        ),
        (
            &["stats", "--store", "postgres://me:hunter2@127.0.0.1:1/x"],
            3,
            "sessions: ",
        ),
    ] {
        let output = sessions().args(words).output().unwrap();
        let (found, text) = read(&output);
        assert_eq!(found, code, "{words:?}: {text}");
        assert!(text.contains(says), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert_eq!(output.stdout, b"");
    }
    let (code, text) = read(&sessions().output().unwrap());
    assert_eq!(code, 0);
    assert!(text.contains("sessions list USER"), "{text}");
}
