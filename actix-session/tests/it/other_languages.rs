//! The cookbook's readers of sessions in other languages, as printed there.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use actix_session::{
    Session, SessionMiddleware,
    config::{SessionMiddlewareBuilder, WireFormat},
    storage::MemorySessionStore,
};
use actix_web::{
    App, Result,
    cookie::Key,
    test::{TestRequest, call_service, init_service},
    web,
};
use serde_json::{Value, json};

const COOKBOOK: &str = include_str!("../../docs/cookbook.md");
const SECRET: [u8; 64] = *b"sixty-four bytes that are a secret of whoever runs these tests..";

/// Each prints the entries of the session that the cookie opens, or `null`. Its input is an object of
/// the cookie, the secret key and all records by their names.
const LANGUAGES: [Language; 3] = [
    Language {
        fence: "python",
        program: "python3",
        asks: &["-c", "import cryptography"],
        run: &["-c"],
        after: r#"
import sys
given = json.load(sys.stdin)
try:
    key = session_key(given["cookie"], given["secret"].encode())
    print(json.dumps(entries(given["records"][key])))
except Exception:
    print("null")
"#,
    },
    Language {
        fence: "javascript",
        program: "node",
        asks: &["--version"],
        run: &["-e"],
        after: r#"
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
try {
  const key = sessionKey(given.cookie, Buffer.from(given.secret));
  console.log(JSON.stringify(entries(given.records[key])));
} catch {
  console.log("null");
}
"#,
    },
    Language {
        fence: "php",
        program: "php",
        asks: &["-r", "exit(extension_loaded('openssl') ? 0 : 1);"],
        run: &["-r"],
        after: r#"
$given = json_decode(stream_get_contents(STDIN), true);
$key = session_key(str_replace('+', ' ', $given['cookie']), $given['secret']);
echo json_encode($key === null ? null : entries($given['records'][$key]));
"#,
    },
];

struct Language {
    fence: &'static str,
    program: &'static str,
    /// Succeeds if the reader has all that it needs.
    asks: &'static [&'static str],
    run: &'static [&'static str],
    after: &'static str,
}

impl Language {
    fn is_there(&self) -> bool {
        let mut command = Command::new(self.program);
        let command = command.args(self.asks).stdout(Stdio::null());
        command
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|it| it.success())
    }

    fn read(&self, given: &Value) -> Value {
        let (_, rest) = COOKBOOK
            .split_once(&format!("```{}\n", self.fence))
            .unwrap();
        let (reader, _) = rest.split_once("```").unwrap();
        let script = [reader, self.after].concat();
        let mut command = Command::new(self.program);
        command.args(self.run).arg(script);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(given.to_string().as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", self.program);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn entries() -> Value {
    json!({ "basket": [7, 8], "name": "Ada \"λ\" + €", "nothing": null, "v": { "deep": [true] } })
}

async fn fill(session: Session) -> Result<&'static str> {
    session.login("ada")?;
    for (name, value) in entries().as_object().unwrap() {
        session.insert(name.as_str(), value)?;
    }
    Ok("filled")
}

/// The cookie and the records of a site with one session.
async fn site(format: WireFormat) -> Value {
    let store = MemorySessionStore::new();
    let builder: SessionMiddlewareBuilder<_> =
        SessionMiddleware::builder(store.clone(), Key::from(&SECRET));
    let app = App::new().wrap(builder.wire_format(format).build());
    let app = init_service(app.route("/", web::get().to(fill))).await;
    let response = call_service(&app, TestRequest::get().to_request()).await;
    let cookie = response.response().cookies().next().unwrap();
    let records: serde_json::Map<_, _> = store
        .dump()
        .into_iter()
        .map(|(name, record)| (name, record.into()))
        .collect();
    json!({
        "cookie": cookie.value(),
        "secret": std::str::from_utf8(&SECRET).unwrap(),
        "records": records,
    })
}

#[actix_web::test]
async fn the_readers_of_the_cookbook_read_our_sessions() {
    for language in LANGUAGES {
        if !language.is_there() {
            println!("not tested here: the reader for {}", language.program);
            continue;
        }
        for format in [WireFormat::V1, WireFormat::V0_11] {
            // Values with each character of base64 come up.
            for _ in 0..4 {
                let given = site(format).await;
                assert_eq!(
                    language.read(&given),
                    entries(),
                    "{} {format:?}",
                    language.program
                );
            }
            let mut given = site(format).await;
            let forged = given["cookie"].as_str().unwrap().replacen(
                |it: char| it.is_ascii_lowercase(),
                "Z",
                1,
            );
            given["cookie"] = forged.into();
            assert_eq!(
                language.read(&given),
                Value::Null,
                "{} {format:?}",
                language.program
            );
        }
    }
}
