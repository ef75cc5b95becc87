use std::{cell::RefCell, rc::Rc};

use super::{
    super::{fake, script::Script},
    *,
};
use crate::protocol::Flag;

#[test]
fn a_server_that_evicts_is_known() {
    let info = |limit: u32, policy: &str| {
        format!("# Memory\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\nx:y\r\n")
    };
    let warned = |limit, policy| evicting_policy(&info(limit, policy)).map(str::to_owned);
    assert_eq!(warned(1, "allkeys-lru").as_deref(), Some("allkeys-lru"));
    assert_eq!(warned(1, "volatile-ttl").as_deref(), Some("volatile-ttl"));
    assert_eq!(warned(0, "allkeys-lru"), None);
    assert_eq!(warned(1, "noeviction"), None);
    assert_eq!(evicting_policy(""), None);
}

const DONE: &str = "*1\r\n:3\r\n";

/// A server's bulk string.
fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Which of a renewal's scripts a command is.
fn half(command: &[String]) -> Option<&'static str> {
    let scripts = [
        ("prepare", &*PREPARE_SCRIPT),
        ("leave", &*LEAVE_SCRIPT),
        ("take back", &*TAKE_BACK_SCRIPT),
    ];
    let called = |script: &Script| command[1] == *script.hash();
    let found = scripts.into_iter().find(|(_, script)| called(script));
    found.map(|(name, _)| name)
}

/// A renewal in two steps whose second answer is lost, and how the server answers it afterwards.
async fn renewal_that_lost_its_second_answer(then: String) -> (Reply, Vec<&'static str>) {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    let connections = fake::connections(None, move |command| {
        let half = half(command).expect("a renewal in two steps");
        let before = seen.borrow().contains(&"leave");
        seen.borrow_mut().push(half);
        match half {
            "leave" if before => Some(then.clone()),
            "leave" => None,
            _ => Some(DONE.to_owned()),
        }
    })
    .await;
    let executor = Executor {
        has_slots: true,
        ..Executor::new(connections)
    };
    let new = Record::decode(r#"{"v":1,"state":{}}"#.to_owned()).unwrap();
    let terms = Terms::default();
    let step = Step::Rotate {
        at: "{a}".to_owned(),
        expect: new.version(),
        new,
        until: terms.now + Millis::secs(60),
        redirect: own_redirect(),
    };
    let reply = executor.run(&step, &terms).await.unwrap();
    let calls = calls.borrow().clone();
    (reply, calls)
}

fn own_redirect() -> Redirect {
    Redirect {
        target: "{b}".to_owned(),
        flag: Flag::Plain,
        made_at: Millis(1),
    }
}

#[actix_web::test]
async fn a_renewal_in_two_steps_repeats_the_one_whose_answer_was_lost() {
    let own = format!("*2\r\n:2\r\n{}", bulk(&own_redirect().encode()));
    let (reply, calls) = renewal_that_lost_its_second_answer(own).await;
    let found = matches!(&reply, Reply::Found(Stored::Redirect(r)) if *r == own_redirect());
    assert!(found, "{reply:?}");
    assert_eq!(calls, ["prepare", "leave", "leave"]);

    let (reply, calls) = renewal_that_lost_its_second_answer(DONE.to_owned()).await;
    assert!(matches!(reply, Reply::Done), "{reply:?}");
    assert_eq!(calls, ["prepare", "leave", "leave"]);
}
