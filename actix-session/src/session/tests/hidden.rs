//! Behind a redirect that another request has left a moment ago, a session shows nothing of what is stored.

use crate::{
    Level, Session,
    clock::SharedClock,
    contract::Terms,
    error::Contended,
    session::{Served, Shown, Times},
};

fn moved(in_flight: bool) -> Session {
    let served = Served::unnamed(SharedClock::default(), Times::from(&Terms::default()), true);
    let shown = Shown {
        moved: true,
        in_flight,
        ..Shown::default()
    };
    Session::of_request(served, shown)
}

fn is_dropped(in_flight: bool, act: impl FnOnce(&Session)) -> bool {
    let session = moved(in_flight);
    act(&session);
    session.lock().take_snapshot().changes_unseen()
}

#[test]
fn what_does_not_show_is_not_changed_in_silence() {
    let acts: [fn(&Session); 6] = [
        |s| assert_eq!(s.remove("a"), None),
        |s| s.modify("a", |_: Option<u32>| None).unwrap(),
        |s| {
            s.modify("a", |_: Option<u32>| Some(1)).unwrap();
            assert!(s.remove("a").is_some());
        },
        |s| s.update("a", |n: u32| n + 1).unwrap(),
        |s| s.lower_level(Level::Zero),
        |s| s.demand_reauth("a leak"),
    ];
    for act in acts {
        assert!(is_dropped(true, act));
        assert!(!is_dropped(true, |s| {
            s.clear();
            act(s);
        }));
    }
    // What this request has set itself, it has seen.
    assert!(!is_dropped(true, |s| {
        s.insert("a", 1).unwrap();
        assert!(s.remove("a").is_some());
    }));
    assert!(!is_dropped(true, |s| drop(s.get::<u32>("a"))));
    // By then the client has the newer cookie, and this one is nobody's.
    assert!(!is_dropped(false, |s| drop(s.remove("a"))));
}

#[actix_web::test]
async fn what_does_not_show_is_not_called_used() {
    let refused = moved(true).take::<String>("token").await.unwrap_err();
    assert!(refused.0.is::<Contended>());
    assert_eq!(moved(false).take::<String>("token").await.unwrap(), None);
}
