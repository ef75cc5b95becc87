//! What clients will do, drawn from a seed.

use actix_session::config::WireFormat;

use crate::support::Random;

/// One thing that a handler does to its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// No two set the same value.
    Set(String, String),
    Remove(String),
    /// Appends a token that no other has to the entry `log`.
    Modify(String),
    Clear,
    Renew,
    Login,
    Purge,
}

/// One request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    /// If empty, the request only touches the session.
    pub(crate) ops: Vec<Op>,
    /// Pauses of the client before it, of the handler before it changes something, and after.
    pub(crate) pauses: [u32; 3],
    /// The time moves on, past the point where a renewed cookie may still be on its way.
    pub(crate) later: bool,
}

/// A client: one request after the other.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// Clients with the same jar are one browser.
    pub(crate) jar: usize,
    pub(crate) steps: Vec<Step>,
}

/// A round.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// The clients are spread over this many threads, each with an application of its own.
    pub(crate) threads: usize,
    pub(crate) jars: usize,
    pub(crate) actors: Vec<Actor>,
    /// Every request extends the session and sends the cookie again.
    pub(crate) persistent: bool,
    pub(crate) format: WireFormat,
    /// About this many of 1,000 commands get lost, or their answers.
    pub(crate) losses: u32,
}

/// How often, by the kind of round: own entry set, shared entry set, removal, modify, touch,
/// renewal, login, clear, purge.
const KINDS: [[u64; 9]; 7] = [
    [6, 4, 3, 6, 2, 0, 0, 0, 0],
    [6, 4, 3, 6, 1, 3, 1, 0, 0],
    [6, 3, 2, 5, 1, 0, 0, 2, 0],
    [6, 3, 2, 5, 1, 0, 0, 0, 1],
    [4, 2, 1, 3, 1, 4, 0, 0, 2],
    [6, 3, 3, 6, 1, 2, 2, 1, 1],
    [1, 8, 0, 1, 0, 3, 1, 0, 0],
];

impl Plan {
    pub(crate) fn draw(seed: u64, losses: u32) -> Self {
        let mut random = Random::new(seed);
        let kind = &KINDS[random.index(KINDS.len())];
        let actors = 3 + random.index(6);
        let jars = if random.one_in(2) { 1 } else { actors };
        let later = random.one_in(3);
        let actors = (0..actors).map(|actor| {
            let steps = 2 + random.index(3);
            let step = |step| draw_step(&mut random, kind, (actor, step), later);
            Actor {
                jar: actor % jars,
                steps: (0..steps).map(step).collect(),
            }
        });
        let actors = actors.collect();
        Self {
            seed,
            jars,
            actors,
            threads: 1 + 2 * random.index(2),
            persistent: random.one_in(3),
            format: if random.one_in(4) {
                WireFormat::V0_11
            } else {
                WireFormat::V1
            },
            losses,
        }
    }
}

fn draw_step(
    random: &mut Random,
    kind: &[u64; 9],
    (actor, step): (usize, usize),
    later: bool,
) -> Step {
    let mut ops = Vec::new();
    for op in 0..1 + random.index(3) {
        let unique = format!("{actor}.{step}.{op}");
        let shared = format!("shared{}", random.index(2));
        let own = format!("own{actor}{}", ["a", "b"][random.index(2)]);
        ops.push(match random.weighted(kind) {
            0 => Op::Set(own, unique),
            1 => Op::Set(shared, unique),
            2 => Op::Remove(if random.one_in(2) { own } else { shared }),
            3 => Op::Modify(unique),
            4 => break,
            5 => Op::Renew,
            6 => Op::Login,
            7 => Op::Clear,
            _ => Op::Purge,
        });
    }
    let mut pause = || match random.index(3) {
        0 => 0,
        most => u32::try_from(random.index(4 * most)).unwrap(),
    };
    let mut pauses = [pause(), pause(), pause()];
    if random.one_in(6) {
        // A slow handler: others renew and end the session meanwhile.
        pauses[1] += 25;
    }
    Step {
        ops,
        pauses,
        // Not so often that redirects get old.
        later: later && step == 1 && actor < 2,
    }
}
