//! Chromium's DevTools protocol, as far as a visitor needs it.
//!
//! Not WebDriver: that shows neither the partition of a cookie nor why one was refused.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use servers::{
    Chromium,
    chromium::{self, ThirdParties},
    install,
};

/// Longer than any answer takes: it ends a test that would hang, and measures nothing.
const LIMIT: Duration = Duration::from_secs(120);

/// The browser, and the connection to it.
pub(crate) struct Browser {
    chromium: Chromium,
    connection: Connection,
}

impl Browser {
    /// Starts a browser with an empty profile. Installs Chromium if it is missing.
    pub(crate) fn start(third_parties: ThirdParties) -> Self {
        if let Err(error) = install::ensure(&chromium::SOFTWARE) {
            panic!("{error}");
        }
        let (chromium, pipe) = Chromium::start(third_parties).unwrap();
        let connection = Connection::new(pipe);
        Self {
            chromium,
            connection,
        }
    }

    /// The browser that tests share. Each test has its own sites, so that no cookies meet.
    pub(crate) fn shared() -> Connection {
        // A static is never dropped: the browser ends when its pipe closes, with this process.
        static SHARED: LazyLock<Mutex<Browser>> =
            LazyLock::new(|| Mutex::new(Browser::start(ThirdParties::Kept)));
        let browser = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        browser.connection.clone()
    }

    pub(crate) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Closes the browser as a user does, and opens it again with the same profile.
    pub(crate) fn close_and_reopen(&mut self) {
        self.connection.call(None, "Browser.close", &json!({}));
        self.chromium.wait_until_closed().unwrap();
        self.connection = Connection::new(self.chromium.restart().unwrap());
    }
}

#[derive(Clone)]
pub(crate) struct Connection(Arc<Inner>);

struct Inner {
    commands: Mutex<ChildStdin>,
    routes: Arc<Mutex<Routes>>,
    last_id: AtomicU64,
}

/// Who waits for which answer.
#[derive(Default)]
struct Routes {
    answers: HashMap<u64, Sender<Value>>,
    /// By session: what happens in one page.
    events: HashMap<String, Sender<Value>>,
}

impl Connection {
    fn new(pipe: chromium::Pipe) -> Self {
        let routes = Arc::new(Mutex::new(Routes::default()));
        let told = Arc::clone(&routes);
        thread::spawn(move || route(pipe.messages, &told));
        Self(Arc::new(Inner {
            commands: Mutex::new(pipe.commands),
            routes,
            last_id: AtomicU64::new(0),
        }))
    }

    /// Sends a command and waits for its result.
    pub(crate) fn call(&self, session: Option<&str>, method: &str, params: &Value) -> Value {
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let (sender, receiver) = mpsc::channel();
        lock(&self.0.routes).answers.insert(id, sender);
        let bytes = format!("{command}\0");
        lock(&self.0.commands).write_all(bytes.as_bytes()).unwrap();
        let Ok(mut answer) = receiver.recv_timeout(LIMIT) else {
            panic!("the browser did not answer {method} {params}");
        };
        if let Some(error) = answer.get("error") {
            panic!("{method} {params}: {error}");
        }
        answer["result"].take()
    }

    fn events_of(&self, session: &str) -> Receiver<Value> {
        let (sender, receiver) = mpsc::channel();
        let mut routes = lock(&self.0.routes);
        routes.events.insert(session.to_owned(), sender);
        receiver
    }
}

/// Hands each message to whoever waits for it, until the browser ends.
fn route(messages: ChildStdout, routes: &Mutex<Routes>) {
    for message in BufReader::new(messages).split(0) {
        let Ok(message) = message else { break };
        let message: Value = serde_json::from_slice(&message).unwrap();
        let mut routes = lock(routes);
        if let Some(id) = message["id"].as_u64() {
            if let Some(sender) = routes.answers.remove(&id) {
                // A receiver that no longer waits has failed already.
                let _ = sender.send(message);
            }
            continue;
        }
        let session = message["sessionId"].as_str();
        if let Some(sender) = session.and_then(|session| routes.events.get(session)) {
            let _ = sender.send(message);
        }
    }
    // Tell everyone who waits that nothing more will come.
    *lock(routes) = Routes::default();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tab.
pub(crate) struct Page {
    connection: Connection,
    target: String,
    session: String,
    main_frame: String,
    events: Receiver<Value>,
}

impl Page {
    pub(crate) fn open(connection: &Connection) -> Self {
        Self::open_as(connection, &json!({"url": "about:blank"}))
    }

    /// A tab in a profile of its own.
    pub(crate) fn open_in_new_profile(connection: &Connection) -> Self {
        let profile = connection.call(None, "Target.createBrowserContext", &json!({}));
        let profile = &profile["browserContextId"];
        let blank = json!({"url": "about:blank", "browserContextId": profile, "newWindow": true});
        Self::open_as(connection, &blank)
    }

    fn open_as(connection: &Connection, blank: &Value) -> Self {
        let connection = connection.clone();
        let target = text(&connection.call(None, "Target.createTarget", blank)["targetId"]);
        let flat = json!({"targetId": target, "flatten": true});
        let attached = connection.call(None, "Target.attachToTarget", &flat);
        let session = text(&attached["sessionId"]);
        let events = connection.events_of(&session);
        let mut page = Self {
            connection,
            target,
            session,
            main_frame: String::new(),
            events,
        };
        page.call("Page.enable", &json!({}));
        page.call("Page.setLifecycleEventsEnabled", &json!({"enabled": true}));
        let tree = page.call("Page.getFrameTree", &json!({}));
        page.main_frame = text(&tree["frameTree"]["frame"]["id"]);
        page
    }

    pub(crate) fn call(&self, method: &str, params: &Value) -> Value {
        self.connection.call(Some(&self.session), method, params)
    }

    /// Goes where the user types an address, and waits until everything there is loaded.
    pub(crate) fn goto(&self, url: &str) {
        self.forget_events();
        let went = self.call("Page.navigate", &json!({"url": url}));
        assert!(went.get("errorText").is_none(), "{url}: {went}");
        self.wait_until_loaded(went["loaderId"].as_str().unwrap());
    }

    /// Does something that leads to another page, and waits until that is loaded.
    pub(crate) fn follow(&self, script: &str) {
        self.forget_events();
        self.evaluate(script);
        self.wait_for_another_page();
    }

    /// The browser's back button.
    pub(crate) fn back(&self) {
        let history = self.call("Page.getNavigationHistory", &json!({}));
        let index = history["currentIndex"].as_u64().unwrap();
        let index = usize::try_from(index).unwrap();
        let id = &history["entries"][index - 1]["id"];
        self.forget_events();
        self.call("Page.navigateToHistoryEntry", &json!({"entryId": id}));
        self.wait_for_another_page();
    }

    /// The result of a script, once its promise is fulfilled.
    pub(crate) fn evaluate(&self, script: &str) -> Value {
        let mut result = self.call(
            "Runtime.evaluate",
            &json!({"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true}),
        );
        if let Some(thrown) = result.get("exceptionDetails") {
            panic!("{script}: {thrown}");
        }
        result["result"]["value"].take()
    }

    /// The visible text.
    pub(crate) fn text(&self) -> String {
        text(&self.evaluate("document.body.innerText"))
    }

    /// A picture of the whole page, as PNG.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let whole = json!({"format": "png", "captureBeyondViewport": true});
        let taken = self.call("Page.captureScreenshot", &whole);
        STANDARD.decode(text(&taken["data"])).unwrap()
    }

    /// The address of the page.
    pub(crate) fn url(&self) -> String {
        text(&self.evaluate("location.href"))
    }

    /// The next event of this kind.
    pub(crate) fn next_event(&self, method: &str) -> Value {
        loop {
            let Ok(mut event) = self.events.recv_timeout(LIMIT) else {
                panic!("the browser reported no {method}");
            };
            if event["method"] == method {
                return event["params"].take();
            }
        }
    }

    pub(crate) fn forget_events(&self) {
        while self.events.try_recv().is_ok() {}
    }

    /// Waits until the page that the browser goes to by itself is loaded.
    pub(crate) fn wait_for_another_page(&self) {
        loop {
            let frame = self.next_event("Page.frameNavigated")["frame"].take();
            // Frames inside the page have parents.
            if frame["id"] == self.main_frame.as_str() {
                return self.wait_until_loaded(frame["loaderId"].as_str().unwrap());
            }
        }
    }

    fn wait_until_loaded(&self, loader: &str) {
        loop {
            let event = self.next_event("Page.lifecycleEvent");
            if event["loaderId"] == loader && event["name"] == "load" {
                return;
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if !thread::panicking() {
            let target = json!({"targetId": self.target});
            self.connection.call(None, "Target.closeTarget", &target);
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
