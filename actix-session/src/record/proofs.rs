//! At which levels somebody has proven who they are, and what has been taken back since.
//!
//! Each level has the time at which it was last shown. So what a version writes that knows of no
//! levels never makes an old proof look new, and changes of parallel requests may come in any order.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    metadata::{Auth, optional, push_next, text_field},
    numbers::{decimal, push_decimal},
};
use crate::{Level, clock::Millis};

/// What the time of the last authentication does not say by itself: that is level one's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Proofs {
    /// When level two was last shown, or level three.
    pub(crate) two: Option<Millis>,
    pub(crate) three: Option<Millis>,
    pub(crate) demand: Option<Demand>,
}

/// No proof counts that is not newer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Demand {
    pub(crate) at: Millis,
    /// Empty if nobody has asked: it is just that nothing is proven.
    pub(crate) reason: String,
}

/// An authentication in a session that has a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Proof {
    pub(crate) at: Millis,
    pub(crate) level: Level,
    /// The demand that it answers, whatever clock that was made by.
    pub(crate) answers: Option<Millis>,
}

/// What is above this level counts no longer, unless it was shown later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lowered {
    pub(crate) to: Level,
    pub(crate) at: Millis,
    /// Why the user must authenticate again, or empty.
    pub(crate) reason: String,
}

impl Lowered {
    /// This one after an earlier one of the same request.
    pub(crate) fn after(mut self, earlier: Option<Self>) -> Self {
        if let Some(earlier) = earlier {
            self.to = self.to.min(earlier.to);
            if self.reason.is_empty() {
                self.reason = earlier.reason;
            }
        }
        self
    }

    /// When it demands an authentication.
    pub(crate) fn demanded_at(&self) -> Option<Millis> {
        (self.to == Level::Zero).then_some(self.at)
    }
}

impl Proofs {
    /// Those of a login.
    pub(crate) fn of(level: Level, at: Millis, reason: &str) -> Self {
        let demand = || Demand {
            at,
            reason: reason.to_owned(),
        };
        Self {
            two: (level >= Level::Two).then_some(at),
            three: (level >= Level::Three).then_some(at),
            demand: (level == Level::Zero).then(demand),
        }
    }

    /// Whether the time of the last authentication says all.
    pub(super) fn are_plain(&self) -> bool {
        self.two.is_none() && self.three.is_none() && self.demand.is_none()
    }

    /// Appends three fields: two times and the demand.
    pub(super) fn encode(&self, out: &mut String) {
        push_next(out, self.two);
        push_next(out, self.three);
        out.push('.');
        if let Some(demand) = &self.demand {
            push_decimal(out, demand.at.0);
            out.push('~');
            URL_SAFE_NO_PAD.encode_string(&demand.reason, out);
        }
    }

    pub(super) fn decode([two, three, demand]: [&str; 3]) -> Option<Self> {
        Some(Self {
            two: optional(two)?,
            three: optional(three)?,
            demand: match demand {
                "" => None,
                demand => Some(Demand::decode(demand)?),
            },
        })
    }
}

impl Demand {
    fn decode(field: &str) -> Option<Self> {
        let (at, reason) = field.split_once('~')?;
        Some(Self {
            at: Millis(decimal(at)?),
            reason: text_field(reason)?,
        })
    }
}

impl Auth {
    /// When this level was last shown, if that still counts.
    pub(crate) fn shown_at(&self, level: Level) -> Option<Millis> {
        let Proofs { two, three, demand } = &self.proofs;
        let at = match level {
            Level::Zero => return Some(self.at).filter(|_| self.demand().is_none()),
            Level::One => Some(self.at),
            Level::Two => (*two).max(*three),
            Level::Three => *three,
        };
        at.filter(|at| demand.as_ref().is_none_or(|demand| *at > demand.at))
    }

    /// The highest level that still counts.
    pub(crate) fn level(&self) -> Level {
        let levels = [Level::Three, Level::Two, Level::One].into_iter();
        let mut shown = levels.filter(|level| self.shown_at(*level).is_some());
        shown.next().unwrap_or(Level::Zero)
    }

    /// Why the user must authenticate again.
    pub(crate) fn demand(&self) -> Option<&str> {
        let demand = self.proofs.demand.as_ref()?;
        (self.at <= demand.at && !demand.reason.is_empty()).then_some(&*demand.reason)
    }

    /// A demand that was made after the call of this login, which commits later, has not been
    /// answered by it.
    pub(crate) fn keep_demand(&mut self, stored: Option<Self>) {
        let demanded = stored.filter(|stored| !stored.is_unproven());
        let demand = demanded.and_then(|stored| stored.proofs.demand);
        let own = self.proofs.demand.as_ref().map(|own| own.at);
        let later = |demand: &Demand| demand.at > self.at && own.is_none_or(|own| own < demand.at);
        if let Some(demand) = demand.filter(later) {
            self.proofs.demand = Some(demand);
        }
    }

    /// Whether another program has logged them in, and nobody has demanded anything.
    fn is_unproven(&self) -> bool {
        let demand = self.proofs.demand.as_ref();
        let is_none = demand.is_some_and(|it| it.at == self.at && it.reason.is_empty());
        self.login() == Millis::ZERO && is_none
    }

    pub(crate) fn prove(&mut self, proof: Proof) {
        let Proof { at, level, answers } = proof;
        let was_unproven = self.is_unproven();
        if at > self.at {
            self.login = Some(self.login());
            self.at = at;
        }
        let proofs = &mut self.proofs;
        proofs.two = proofs.two.max((level >= Level::Two).then_some(at));
        proofs.three = proofs.three.max((level >= Level::Three).then_some(at));
        let answered =
            |demand: &Demand| was_unproven || demand.at < at || Some(demand.at) == answers;
        if level > Level::Zero && proofs.demand.as_ref().is_some_and(answered) {
            proofs.demand = None;
        }
    }

    /// Whether that changes anything.
    pub(crate) fn lower(&mut self, lowered: &Lowered) -> bool {
        let before = self.proofs.clone();
        let proofs = &mut self.proofs;
        let later = |at: &Millis| *at > lowered.at;
        if lowered.to < Level::Three {
            proofs.three = proofs.three.filter(later);
        }
        if lowered.to < Level::Two {
            proofs.two = proofs.two.filter(later);
        }
        if lowered.to == Level::Zero && !later(&self.at) {
            self.demand_again(lowered);
        }
        self.proofs != before
    }

    /// The demand stays that came last, and a reason until there is another one.
    fn demand_again(&mut self, lowered: &Lowered) {
        let known = self.proofs.demand.take();
        let reason = match &known {
            Some(known) if lowered.reason.is_empty() => &known.reason,
            _ => &lowered.reason,
        };
        let made = Demand {
            at: lowered.at,
            reason: reason.clone(),
        };
        let later = known.filter(|known| known.at > made.at);
        self.proofs.demand = Some(later.unwrap_or(made));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn proofs() -> impl Strategy<Value = Proofs> {
        let millis = || proptest::option::of(any::<i64>().prop_map(Millis));
        let demand = (any::<i64>(), ".*").prop_map(|(at, reason)| Demand {
            at: Millis(at),
            reason,
        });
        (millis(), millis(), proptest::option::of(demand)).prop_map(|(two, three, demand)| Proofs {
            two,
            three,
            demand,
        })
    }

    fn login(level: Level, at: i64) -> Auth {
        Auth {
            proofs: Proofs::of(level, Millis(at), ""),
            ..Auth::new("alice", Millis(at))
        }
    }

    fn proof(level: Level, at: i64) -> Proof {
        Proof {
            at: Millis(at),
            level,
            answers: None,
        }
    }

    fn lowered(to: Level, at: i64, reason: &str) -> Lowered {
        Lowered {
            to,
            at: Millis(at),
            reason: reason.to_owned(),
        }
    }

    fn shown(auth: &Auth) -> [Option<i64>; 3] {
        let levels = [Level::One, Level::Two, Level::Three];
        levels.map(|level| auth.shown_at(level).map(|at| at.0))
    }

    /// A commit may date what an old server has left later than the load that the proof came after.
    #[test]
    fn whoever_an_old_server_has_logged_in_proves_it_at_any_time() {
        for at in [3, 5, 7] {
            let mut auth = login(Level::Zero, 5);
            auth.login = Some(Millis::ZERO);
            auth.prove(proof(Level::One, at));
            assert_eq!(auth.level(), Level::One, "{at}");
        }
        // Here somebody has demanded it.
        let mut demanded = login(Level::One, 5);
        demanded.lower(&lowered(Level::Zero, 5, ""));
        demanded.prove(proof(Level::One, 3));
        assert_eq!(demanded.level(), Level::Zero);
    }

    #[test]
    fn each_level_keeps_the_time_at_which_it_was_shown() {
        let mut auth = login(Level::Two, 5);
        assert_eq!(shown(&auth), [Some(5), Some(5), None]);
        auth.prove(proof(Level::One, 7));
        assert_eq!(shown(&auth), [Some(7), Some(5), None]);
        auth.prove(proof(Level::Three, 9));
        assert_eq!(shown(&auth), [Some(9); 3]);
        auth.prove(proof(Level::Two, 11));
        assert_eq!(shown(&auth), [Some(11), Some(11), Some(9)]);
        assert_eq!(auth.level(), Level::Three);
        assert!(auth.lower(&lowered(Level::Two, 12, "")));
        assert_eq!(
            (auth.level(), shown(&auth)),
            (Level::Two, [Some(11), Some(11), None])
        );
        assert!(!auth.lower(&lowered(Level::Two, 12, "")));
    }

    #[test]
    fn a_version_without_levels_raises_none() {
        let mut auth = login(Level::Zero, 5);
        assert_eq!((auth.level(), shown(&auth)), (Level::Zero, [None; 3]));
        // What such a version does at a re-authentication.
        auth.at = Millis(8);
        assert_eq!(shown(&auth), [Some(8), None, None]);
        let mut auth = login(Level::Three, 5);
        auth.at = Millis(8);
        assert_eq!(shown(&auth), [Some(8), Some(5), Some(5)]);
    }

    #[test]
    fn a_demand_lasts_until_it_is_answered() {
        let mut auth = login(Level::Two, 5);
        assert!(auth.lower(&lowered(Level::Zero, 6, "new country")));
        assert_eq!(
            (shown(&auth), auth.demand()),
            ([None; 3], Some("new country"))
        );
        assert_eq!(auth.shown_at(Level::Zero), None, "not even as a guest");
        assert!(!auth.lower(&lowered(Level::One, 7, "")));
        // Somebody else's answer to what came before it.
        auth.prove(proof(Level::Two, 6));
        assert_eq!(
            (auth.level(), auth.demand()),
            (Level::Zero, Some("new country"))
        );
        auth.lower(&lowered(Level::Zero, 7, ""));
        assert_eq!(auth.demand(), Some("new country"));
        // By a clock that is slow.
        let answer = Proof {
            answers: Some(Millis(7)),
            ..proof(Level::One, 6)
        };
        auth.prove(answer);
        assert_eq!((auth.level(), auth.demand()), (Level::One, None));
    }

    fn acts() -> impl Strategy<Value = Result<Proof, Lowered>> {
        let level =
            || prop::sample::select(vec![Level::Zero, Level::One, Level::Two, Level::Three]);
        prop_oneof![
            (level(), 10..20_i64).prop_map(|(level, at)| Ok(proof(level.max(Level::One), at))),
            (level(), 10..20_i64, "[ab]?").prop_map(|(to, at, why)| Err(lowered(to, at, &why))),
        ]
    }

    fn act(auth: &mut Auth, act: &Result<Proof, Lowered>) {
        match act {
            Ok(proof) => auth.prove(*proof),
            Err(lowered) => drop(auth.lower(lowered)),
        }
    }

    fn at(act: &Result<Proof, Lowered>) -> Millis {
        act.as_ref()
            .map_or_else(|lowered| lowered.at, |proof| proof.at)
    }

    fn lowers_earlier(one: &Result<Proof, Lowered>, other: &Result<Proof, Lowered>) -> bool {
        match (one, other) {
            (Ok(proof), Err(lowered)) => lowered.to > Level::Zero && proof.at < lowered.at,
            _ => false,
        }
    }

    proptest! {
        /// Requests that run side by side may commit in any order, unless one lowers a level that the
        /// other has shown before that.
        #[test]
        fn what_two_requests_do_at_different_times_comes_to_the_same(
            one in acts(), other in acts(), level in 0..3_usize,
        ) {
            prop_assume!(at(&one) != at(&other));
            prop_assume!(!lowers_earlier(&one, &other) && !lowers_earlier(&other, &one));
            let level = [Level::One, Level::Two, Level::Three][level];
            let (mut first, mut last) = (login(level, 5), login(level, 5));
            for it in [&one, &other] {
                act(&mut first, it);
            }
            for it in [&other, &one] {
                act(&mut last, it);
            }
            prop_assert_eq!(shown(&first), shown(&last));
        }

        #[test]
        fn nothing_raises_a_level_but_a_proof(auth in proofs(), at: i64, to in 0..4_usize, when: i64) {
            let to = [Level::Zero, Level::One, Level::Two, Level::Three][to];
            let before = Auth { at: Millis(at), proofs: auth, ..login(Level::One, 5) };
            let mut after = before.clone();
            after.lower(&lowered(to, when, ""));
            for level in [Level::One, Level::Two, Level::Three] {
                let (was, is) = (before.shown_at(level), after.shown_at(level));
                prop_assert!(is <= was);
                prop_assert!(level <= to || is.is_none_or(|is| is > Millis(when)));
            }
        }
    }
}
