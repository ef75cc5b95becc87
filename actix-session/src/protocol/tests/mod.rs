//! What the machines promise: by hand, and as a model in every order.

mod lost_answers;
pub(super) mod model;

use super::*;

#[test]
fn marks_survive_the_round_trip() {
    for flag in [Flag::Plain, Flag::Login, Flag::Ended] {
        let mark = Mark {
            target: "a|b".into(),
            flag,
            made_at: Millis(-5),
        };
        assert_eq!(Mark::decode(&mark.encode()), Some(mark));
    }
    for text in ["", "p", "p|x|k", "q|1|k"] {
        assert_eq!(Mark::decode(text), None, "{text}");
    }
}
