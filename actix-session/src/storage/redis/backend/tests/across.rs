//! Renewals and logins in several steps, on a server that loses answers.

use std::cell::Cell;

use redis::ConnectionAddr;

use super::{
    super::super::{
        index::Known,
        script::{
            ENTER_SCRIPT, FORGET_SCRIPT, LEAVE_SCRIPT, LIVE_ON_SCRIPT, LOOK_SCRIPT, PREPARE_SCRIPT,
            TAKE_BACK_SCRIPT,
        },
    },
    *,
};
use crate::{changes::Effect, protocol::Backend as _, record::WireFormat};

/// On a cluster that answers like this.
async fn executor(answer: impl FnMut(&[String]) -> Option<String> + 'static) -> Executor {
    Executor {
        has_slots: true,
        ..Executor::new(fake::connections(None, answer).await)
    }
}

/// Which of the scripts for several slots a command is.
fn half(command: &[String]) -> Option<&'static str> {
    let scripts = [
        ("prepare", &*PREPARE_SCRIPT),
        ("leave", &*LEAVE_SCRIPT),
        ("take back", &*TAKE_BACK_SCRIPT),
        ("enter", &*ENTER_SCRIPT),
        ("live on", &*LIVE_ON_SCRIPT),
        ("forget", &*FORGET_SCRIPT),
        ("look", &*LOOK_SCRIPT),
    ];
    let called = |script: &Script| command[1] == *script.hash();
    let found = scripts.into_iter().find(|(_, script)| called(script));
    found.map(|(name, _)| name)
}

/// A renewal in two steps whose second answer is lost, and how the server answers it afterwards.
async fn renewal_that_lost_its_second_answer(then: String) -> (Reply, Vec<&'static str>) {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    let executor = executor(move |command| {
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
    let new = Record::decode(r#"{"v":1,"state":{}}"#.to_owned()).unwrap();
    let terms = Terms::default();
    let step = Step::Rotate {
        at: "{a}".into(),
        expect: new.version(),
        new,
        until: terms.now + Millis::secs(60),
        redirect: own_redirect(),
        epoch: None,
        owner_before: OwnerBefore::Same,
    };
    let reply = executor
        .run(&step, &Indexing::default(), &terms)
        .await
        .unwrap();
    let calls = calls.borrow().clone();
    (reply, calls)
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

/// A login in three steps, whose last one is answered in turn, or not.
async fn login_across_slots(
    answers: &'static [Option<&'static str>],
) -> (Reply, Vec<(&'static str, Vec<String>)>) {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    let mut answers = answers.iter().copied();
    let executor = executor(move |command| {
        let half = half(command).expect("a login in three steps");
        seen.borrow_mut().push((half, command[2..].to_vec()));
        match half {
            "enter" => answers.next().unwrap().map(str::to_owned),
            _ => Some(DONE.to_owned()),
        }
    })
    .await;
    let old = Record::decode(r#"{"v":1,"state":{}}"#.to_owned()).unwrap();
    let auth = "{\"v\":1,\"f\":\"1.7.5...0..9.YQ\",\"state\":{}}";
    let terms = Terms::default();
    let keygen = |key: &str| format!("{{b}}{key}");
    let step = Step::Rotate {
        at: "{a}".into(),
        expect: old.version(),
        new: Record::decode(auth.to_owned()).unwrap(),
        until: terms.now + Millis::secs(3_600),
        redirect: own_redirect(),
        epoch: None,
        owner_before: OwnerBefore::Other(None),
    };
    let indexing = Indexing::of(&step, &keygen);
    let reply = executor.run(&step, &indexing, &terms).await.unwrap();
    let calls = calls.borrow().clone();
    (reply, calls)
}

#[actix_web::test]
async fn a_login_across_slots_repeats_its_last_step_until_it_is_answered() {
    const REFUSED: Option<&str> = Some("-NOREPLICAS no\r\n");
    const OVER: Option<&str> = Some("*1\r\n:6\r\n");

    let names = |calls: &[(&'static str, Vec<String>)]| -> Vec<&str> {
        calls.iter().map(|(name, _)| *name).collect()
    };
    let (reply, calls) = login_across_slots(&[None, REFUSED, Some(DONE)]).await;
    assert!(matches!(reply, Reply::Done), "{reply:?}");
    assert_eq!(
        names(&calls),
        ["prepare", "leave", "enter", "enter", "enter"]
    );
    // The record lives for the grace until the index has it.
    let last = |call: usize, n: usize| calls[call].1[calls[call].1.len() - n].as_str();
    assert_eq!(last(0, 1), "60000");
    let id = "00000000000000000000000000000007";
    let entered = &calls[2].1[3..];
    assert_eq!(entered, ["3600000", index::SPAN, id, "9", "9|{b}", "", ""]);
    assert_eq!(calls[2].1[1], "{b}");
    assert!(calls[2].1[2].ends_with(":sessions"));

    let (reply, calls) = login_across_slots(&[None, OVER]).await;
    assert!(matches!(reply, Reply::Ended), "{reply:?}");
    assert_eq!(names(&calls), ["prepare", "leave", "enter", "enter"]);
}

/// The record was there before its index knew of it. Once it says that it is listed, no load asks.
#[actix_web::test]
async fn a_record_whose_owners_sessions_have_ended_is_not_listed_but_ended() {
    let text = r#"{"v":1,"f":"1.7.5...0..9.YQ","state":{}}"#;
    let new = Record::decode(text.to_owned()).unwrap();
    let step = Step::Cas {
        at: "{a}".into(),
        expect: new.version(),
        until: Until::Same,
        new,
        epoch: None,
        owner_before: OwnerBefore::Other(None),
    };
    let indexing = Indexing::of(&step, &|key: &str| format!("{{c}}{key}"));
    for (answer, then) in [
        (Some("*1\r\n:6\r\n"), vec!["enter", "end"]),
        (None, vec!["enter"]),
    ] {
        let calls = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&calls);
        let executor = executor(move |command| {
            let half = half(command).unwrap_or("end");
            seen.borrow_mut().push(half);
            match half {
                "enter" => answer.map(str::to_owned),
                _ => Some(DONE.to_owned()),
            }
        })
        .await;
        let reply = executor.run(&step, &indexing, &Terms::default()).await;
        let reply = reply.unwrap();
        assert_eq!(matches!(reply, Reply::Ended), answer.is_some(), "{reply:?}");
        assert_eq!(matches!(reply, Reply::Lost), answer.is_none(), "{reply:?}");
        assert_eq!(*calls.borrow(), then);
    }
}

/// What a step of somebody asks for whose index lies in a slot of its own, as the answers to "live on"
/// say, or are lost.
async fn calls_of(
    step: &Step,
    answers: &'static [Option<&'static str>],
) -> (Reply, Vec<(&'static str, Vec<String>)>) {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    let mut answers = answers.iter().copied();
    let executor = executor(move |command| {
        let half = half(command).unwrap_or("end");
        seen.borrow_mut().push((half, command[2..].to_vec()));
        match half {
            "live on" => answers.next().unwrap().map(str::to_owned),
            _ => Some(DONE.to_owned()),
        }
    })
    .await;
    let indexing = Indexing::of(step, &|key: &str| format!("{{c}}{key}"));
    let reply = executor.run(step, &indexing, &Terms::default()).await;
    let calls = calls.borrow().clone();
    (reply.unwrap(), calls)
}

/// Nobody knows the key before the index has the record: whoever dies until then leaves nothing that
/// outlives the grace.
#[actix_web::test]
async fn a_record_whose_index_lies_apart_lives_for_the_grace_until_it_is_entered() {
    const OVER: Option<&str> = Some("*1\r\n:6\r\n");

    let new = Record::decode("{\"v\":1,\"f\":\"1.7.5...0..9.YQ\",\"state\":{}}".to_owned());
    let new = new.unwrap();
    let until = Terms::default().now + Millis::secs(3_600);
    let insert = Step::Insert {
        at: "{a}".into(),
        new: new.clone(),
        until,
    };
    let old = Record::decode(r#"{"v":1,"state":{}}"#.to_owned()).unwrap();
    let rotate = Step::Rotate {
        at: "{a}".into(),
        expect: old.version(),
        new,
        until,
        redirect: own_redirect(),
        epoch: None,
        owner_before: OwnerBefore::Other(None),
    };
    for (step, first) in [
        (insert, &["prepare", "enter"][..]),
        (rotate, &["prepare", "leave", "enter"]),
    ] {
        let names = |calls: &[(&'static str, Vec<String>)], then: &[&'static str]| {
            let names: Vec<_> = calls.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [first, then].concat());
        };
        let (reply, calls) = calls_of(&step, &[None, Some(DONE)]).await;
        assert!(matches!(reply, Reply::Done), "{reply:?}");
        names(&calls, &["live on", "live on"]);
        let last = |call: usize| calls[call].1.last().unwrap().as_str();
        assert_eq!(last(0), "60000");
        let left: u64 = last(first.len()).parse().unwrap();
        assert!((3_590_000..=3_600_000).contains(&left), "{left}");

        // It was ended before that.
        let (reply, calls) = calls_of(&step, &[OVER]).await;
        assert!(matches!(reply, Reply::Ended), "{reply:?}");
        names(&calls, &["live on"]);
    }
}

/// On a cluster of one node, which answers like this.
async fn in_cluster(
    mut answer: impl FnMut(&[String]) -> Option<String> + 'static,
) -> RedisSessionStore {
    let port = Rc::new(Cell::new(0));
    let own = Rc::clone(&port);
    let server = fake::listen(move |command| match &*command[0] {
        "CLUSTER" => Some(format!(
            "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n{}:{}\r\n",
            bulk("127.0.0.1"),
            own.get()
        )),
        _ => answer(command),
    })
    .await;
    if let ConnectionAddr::Tcp(_, number) = server.addr() {
        port.set(*number);
    }
    let cluster = conn::Target::Cluster(vec![server]);
    store(Connections::new(&cluster, fake::PATIENCE, None).unwrap())
}

/// A new session whose first answer is lost, in a slot that is being moved for a while.
#[actix_web::test]
async fn a_creation_that_is_put_off_once_its_answer_was_lost_waits_for_the_slot() {
    let names = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&names);
    let store = in_cluster(move |command| {
        if command[0] == "GET" {
            return Some("$-1\r\n".to_owned());
        }
        let mut seen = seen.borrow_mut();
        seen.push(command[3].clone());
        match seen.len() {
            1 => None,
            2..5 => Some("-TRYAGAIN x\r\n".to_owned()),
            _ => Some(DONE.to_owned()),
        }
    })
    .await;
    let changes = Changes {
        effects: [("n".into(), Effect::Set("1".to_owned()))].into(),
        ..Changes::default()
    };
    let created = backend::create(&store, &changes, &Terms::default()).await;
    let (key, _) = created.unwrap();
    // The key of the first attempt, which may have been carried out.
    assert_eq!(*names.borrow(), [key.as_ref(); 5]);
}

/// Without its epoch, a `clear` would not hold for requests in flight.
#[actix_web::test]
async fn a_clear_that_is_put_off_waits_for_the_slot_if_its_epoch_lies_beside() {
    for (format, expected) in [
        (WireFormat::V0_11, ["3", "3", "3", "3"]),
        (WireFormat::V1, ["2", "1", "1", "1"]),
    ] {
        let keys = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&keys);
        let store = in_cluster(move |command| {
            let mut seen = seen.borrow_mut();
            seen.push(command[2].clone());
            let is_moved = seen.len() == 4;
            Some(if is_moved { DONE } else { "-TRYAGAIN x\r\n" }.to_owned())
        })
        .await;
        let terms = Terms {
            format,
            ..Terms::default()
        };
        let [old, new] = [FIRST, OTHER].map(|text| Record::decode(text.to_owned()).unwrap());
        let clear = Step::Cas {
            at: "{a}".into(),
            expect: old.version(),
            owner_before: OwnerBefore::of(&old, &new),
            new,
            until: Until::Same,
            epoch: Some(7),
        };
        let reply = store.run(&clear, &terms).await.unwrap();
        assert!(matches!(reply, Reply::Done), "{reply:?}");
        assert_eq!(*keys.borrow(), expected, "{format:?}");
    }
}

/// What is asked for once an entry's record was not found, if this is there when it is looked at again.
async fn calls_to_forget(reserved: bool, found: String) -> Vec<(&'static str, Vec<String>)> {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    let executor = executor(move |command| {
        let Some(name) = half(command) else {
            return Some("$-1\r\n".to_owned());
        };
        seen.borrow_mut().push((name, command[2..].to_vec()));
        Some(match name {
            "look" => found.clone(),
            _ => DONE.to_owned(),
        })
    })
    .await;
    let dead = Known {
        id: 7,
        login: Millis(9),
        at: "{a}".into(),
        reserved,
    };
    let terms = Terms::default();
    executor
        .forget_unfound("{c}", &[dead], &terms)
        .await
        .unwrap();
    calls.borrow().clone()
}

/// Whoever has lost an answer may reserve the entry before the record is there.
#[actix_web::test]
async fn a_record_that_was_written_meanwhile_stays_in_its_index() {
    let record = |id: u32| {
        let text = format!("{{\"v\":1,\"f\":\"1.{id}.5...0..9.YQ\",\"state\":{{}}}}");
        format!("*3\r\n:1\r\n{}:60000\r\n", bulk(&text))
    };
    let nothing = || "*1\r\n:0\r\n".to_owned();
    let names = |calls: &[(&'static str, Vec<String>)]| -> Vec<&str> {
        calls.iter().map(|(name, _)| *name).collect()
    };
    let id = "00000000000000000000000000000007";
    let calls = calls_to_forget(true, record(7)).await;
    assert_eq!(names(&calls), ["forget", "look", "enter"]);
    // It takes no entry's place that says more.
    assert_eq!(calls[0].1[2..], [id, "+9|{a}"]);
    assert_eq!(calls[2].1[3..6], [id, "9", "+9|{a}"]);
    // Somebody else's.
    let calls = calls_to_forget(true, record(8)).await;
    assert_eq!(names(&calls), ["forget", "look"]);
    let calls = calls_to_forget(true, nothing()).await;
    assert_eq!(names(&calls), ["forget", "look"]);
    // Its record was there once.
    let calls = calls_to_forget(false, record(7)).await;
    assert_eq!(names(&calls), ["forget"]);
    assert_eq!(calls[0].1[2..], [id, "9|{a}"]);
}

/// Whoever has looked before the record was there takes the reservation away, and not the entry.
#[actix_web::test]
async fn an_entry_says_whether_its_record_was_there() {
    let new = Record::decode("{\"v\":1,\"f\":\"1.7.5...0..9.YQ\",\"state\":{}}".to_owned());
    let insert = Step::Insert {
        at: "{a}".into(),
        new: new.unwrap(),
        until: Terms::default().now + Millis::secs(3_600),
    };
    let indexing = Indexing::of(&insert, &|key: &str| format!("{{c}}{key}"));
    for (is_lost, entry) in [(true, "+9|{a}"), (false, "9|{a}")] {
        let entered = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&entered);
        let executor = executor(move |command| match half(command) {
            Some("prepare") if is_lost => None,
            Some("enter") => {
                seen.borrow_mut().push(command[command.len() - 3].clone());
                Some(DONE.to_owned())
            }
            _ => Some(DONE.to_owned()),
        })
        .await;
        let reply = executor.run(&insert, &indexing, &Terms::default()).await;
        assert_eq!(matches!(reply.unwrap(), Reply::Lost), is_lost);
        assert_eq!(*entered.borrow(), [entry]);
    }
}
