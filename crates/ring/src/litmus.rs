//! The store-load and hand-over protocols of the ring against the C++20 memory model.
//!
//! A litmus test is a program of a few accesses for two or three threads, and an outcome that must not happen. All
//! candidate executions are enumerated: which write each read reads from, and in which order the writes of
//! a location take effect. An execution that the model allows and that has the outcome is a fault. The
//! model is RC11 (Lahav and others, *Repairing sequential consistency in C/C++11*, PLDI 2017), whose rules
//! for `SeqCst` C++20 adopted. As in C++20, a store of the same thread does not continue a release
//! sequence, and cycles of program order and reads-from are not excluded.
//!
//! The programs use the constants of `order.rs`, as the code does. For every constant the last test
//! weakens it and expects that some outcome becomes possible: so no constant is stronger than it has to
//! be for these programs, and the checker does notice.

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use crate::order::{
    ADD_THREAD, ARM, CHANGE_SLOT, CLEAR_ARMED, DEQUEUE, LOOK_AT_CLOSED, LOOK_AT_FLAGS,
    LOOK_AT_SLOT, PIN, PUSH_NODE, QUEUE, SCAN_FENCE, SWEEP_FENCE, TAKE_NODES,
};

/// One access, of a location by its name.
#[derive(Clone, Copy)]
enum Op {
    Load(&'static str, Ordering),
    Store(&'static str, u8, Ordering),
    /// Writes that, whatever it reads.
    Swap(&'static str, u8, Ordering),
    Fence(Ordering),
}
use Op::{Fence, Load, Store, Swap};

impl Op {
    fn location(self) -> Option<&'static str> {
        match self {
            Load(at, _) | Store(at, ..) | Swap(at, ..) => Some(at),
            Fence(_) => None,
        }
    }

    fn written(self) -> Option<u8> {
        match self {
            Store(_, value, _) | Swap(_, value, _) => Some(value),
            Load(..) | Fence(_) => None,
        }
    }

    fn reads(self) -> bool {
        matches!(self, Load(..) | Swap(..))
    }

    fn order(self) -> Ordering {
        match self {
            Load(_, order) | Store(_, _, order) | Swap(_, _, order) | Fence(order) => order,
        }
    }

    fn acquires(self) -> bool {
        !matches!(self, Store(..)) && matches!(self.order(), Acquire | AcqRel | SeqCst)
    }

    fn releases(self) -> bool {
        !matches!(self, Load(..)) && matches!(self.order(), Release | AcqRel | SeqCst)
    }
}

/// Some threads, and what must not happen: each of these reads, by thread and step, finds that value.
struct Litmus {
    name: &'static str,
    threads: Vec<Vec<Op>>,
    never: Vec<(usize, usize, u8)>,
}

/// The orderings by name, so that a test can weaken one.
#[derive(Clone, Copy)]
struct Orders {
    change_slot: Ordering,
    look_at_slot: Ordering,
    pin: Ordering,
    look_at_closed: Ordering,
    add_thread: Ordering,
    arm: Ordering,
    look_at_flags: Ordering,
    clear_armed: Ordering,
    push_node: Ordering,
    take_nodes: Ordering,
    queue: Ordering,
    dequeue: Ordering,
    scan_fence: Ordering,
    sweep_fence: Ordering,
}

const SHIPPED: Orders = Orders {
    change_slot: CHANGE_SLOT,
    look_at_slot: LOOK_AT_SLOT,
    pin: PIN,
    look_at_closed: LOOK_AT_CLOSED,
    add_thread: ADD_THREAD,
    arm: ARM,
    look_at_flags: LOOK_AT_FLAGS,
    clear_armed: CLEAR_ARMED,
    push_node: PUSH_NODE,
    take_nodes: TAKE_NODES,
    queue: QUEUE,
    dequeue: DEQUEUE,
    scan_fence: SCAN_FENCE,
    sweep_fence: SWEEP_FENCE,
};

/// What a location holds at first, and what is written to it.
const OLD: u8 = 0;
const NEW: u8 = 1;

fn litmus_tests(order: &Orders) -> Vec<Litmus> {
    vec![
        Litmus {
            name: "[W1], [W2]: a publisher does not see the sleeper, which does not see the record",
            threads: vec![
                vec![
                    Swap("slot", NEW, order.change_slot),
                    Store("tail", NEW, Release),
                    Load("flags", order.look_at_flags),
                ],
                vec![
                    Swap("flags", NEW, order.arm),
                    Load("slot", order.look_at_slot),
                ],
            ],
            never: vec![(0, 2, OLD), (1, 1, OLD)],
        },
        Litmus {
            name: "[W6]: the notifier clears the flag of a reader that it does not find on the stack",
            threads: vec![
                vec![
                    Swap("stack", NEW, order.push_node),
                    Swap("flags", NEW, order.arm),
                ],
                vec![
                    Swap("flags", OLD, order.clear_armed),
                    Swap("stack", OLD, order.take_nodes),
                ],
            ],
            never: vec![(1, 0, NEW), (1, 1, OLD)],
        },
        Litmus {
            name: "[W5]: a reader finds its node queued, and the notifier does not find its waker",
            threads: vec![
                vec![
                    // At first its reader is at the waker.
                    Store("waker", NEW, Release),
                    Swap("queued", NEW, order.queue),
                ],
                vec![Swap("queued", 2, order.dequeue), Swap("waker", 2, Acquire)],
            ],
            // 2 stands for "not queued" and "taken". The node is queued at first, so the reader, whose
            // exchange comes first, does not push it again.
            never: vec![(1, 0, NEW), (1, 1, OLD)],
        },
        Litmus {
            name: "[K1]: the notifier takes the node of a reader that has not announced its sleep yet, and not its link",
            threads: vec![
                vec![
                    Store("link", NEW, Relaxed),
                    Swap("stack", NEW, order.push_node),
                ],
                vec![Swap("stack", OLD, order.take_nodes), Load("link", Relaxed)],
            ],
            never: vec![(1, 0, NEW), (1, 1, OLD)],
        },
        Litmus {
            name: "[K2]: a reader links its node anew, and the notifier finds the new link in the stack that it has taken",
            threads: vec![
                vec![
                    Swap("queued", NEW, order.queue),
                    Store("link", NEW, Relaxed),
                ],
                vec![Load("link", Relaxed), Swap("queued", 2, order.dequeue)],
            ],
            never: vec![(0, 0, 2), (1, 0, NEW)],
        },
        Litmus {
            name: "[E1]: a visitor finds a retired record, and its evictor does not see the visitor",
            threads: vec![
                vec![
                    Swap("pinned", NEW, order.pin),
                    Load("slot", order.look_at_slot),
                ],
                vec![
                    Swap("slot", NEW, order.change_slot),
                    Fence(order.scan_fence),
                    Load("pinned", Acquire),
                ],
            ],
            never: vec![(0, 1, OLD), (1, 2, OLD)],
        },
        Litmus {
            name: "[E1]: the same, where the notifier looks for the evictor, which has left",
            threads: vec![
                vec![
                    Swap("pinned", NEW, order.pin),
                    Load("slot", order.look_at_slot),
                ],
                vec![
                    Swap("slot", NEW, order.change_slot),
                    Store("left", NEW, Release),
                ],
                vec![
                    Load("left", Acquire),
                    Fence(order.scan_fence),
                    Load("pinned", Acquire),
                ],
            ],
            never: vec![(0, 1, OLD), (2, 0, NEW), (2, 2, OLD)],
        },
        Litmus {
            name: "[E3]: the owner finds its retire list open, and the notifier finds the owner outside",
            threads: vec![
                vec![
                    Swap("pinned", NEW, order.pin),
                    Load("closed", order.look_at_closed),
                ],
                vec![
                    Store("closed", NEW, Relaxed),
                    Fence(order.sweep_fence),
                    Load("pinned", Acquire),
                ],
            ],
            never: vec![(0, 1, OLD), (1, 2, OLD)],
        },
        Litmus {
            name: "[E4]: a new thread finds a retired record, and is not found in the list of threads",
            threads: vec![
                vec![
                    Swap("list", NEW, order.add_thread),
                    Swap("pinned", NEW, order.pin),
                    Load("slot", order.look_at_slot),
                ],
                vec![
                    Swap("slot", NEW, order.change_slot),
                    Fence(order.scan_fence),
                    Load("list", Acquire),
                ],
            ],
            never: vec![(0, 2, OLD), (1, 2, OLD)],
        },
        Litmus {
            name: "[E5]: a thread relies on the garbage flag, and the notifier does not see the thread",
            threads: vec![
                vec![
                    Swap("pinned", NEW, order.pin),
                    Load("flags", order.look_at_flags),
                ],
                vec![
                    // Clears what was set.
                    Swap("flags", NEW, Relaxed),
                    Fence(order.sweep_fence),
                    Load("pinned", Acquire),
                ],
            ],
            never: vec![(0, 1, OLD), (1, 2, OLD)],
        },
    ]
}

#[test]
fn no_outcome_that_must_not_happen_is_possible() {
    for litmus in litmus_tests(&SHIPPED) {
        assert!(!litmus.is_possible(), "{}", litmus.name);
    }
}

/// Each constant, and what it could be weakened to.
#[test]
fn every_weaker_ordering_makes_one_possible() {
    type Field = fn(&mut Orders) -> &mut Ordering;
    let read_modify_write: &[Ordering] = &[AcqRel, Release, Acquire, Relaxed];
    let load: &[Ordering] = &[Acquire, Relaxed];
    let sites: [(&str, Field, &[Ordering]); 14] = [
        ("CHANGE_SLOT", |all| &mut all.change_slot, read_modify_write),
        ("LOOK_AT_SLOT", |all| &mut all.look_at_slot, load),
        ("PIN", |all| &mut all.pin, read_modify_write),
        ("LOOK_AT_CLOSED", |all| &mut all.look_at_closed, load),
        ("ADD_THREAD", |all| &mut all.add_thread, read_modify_write),
        ("ARM", |all| &mut all.arm, read_modify_write),
        ("LOOK_AT_FLAGS", |all| &mut all.look_at_flags, load),
        ("CLEAR_ARMED", |all| &mut all.clear_armed, &[Relaxed]),
        ("PUSH_NODE", |all| &mut all.push_node, &[Relaxed]),
        ("TAKE_NODES", |all| &mut all.take_nodes, &[Relaxed]),
        ("QUEUE", |all| &mut all.queue, &[Acquire, Release, Relaxed]),
        (
            "DEQUEUE",
            |all| &mut all.dequeue,
            &[Acquire, Release, Relaxed],
        ),
        ("SCAN_FENCE", |all| &mut all.scan_fence, &[AcqRel]),
        ("SWEEP_FENCE", |all| &mut all.sweep_fence, &[AcqRel]),
    ];
    for (name, field, weaker) in sites {
        for weaker in weaker {
            let mut orders = SHIPPED;
            *field(&mut orders) = *weaker;
            let possible = litmus_tests(&orders).iter().any(Litmus::is_possible);
            assert!(possible, "{name} could be {weaker:?}");
        }
    }
}

/// The checker itself: outcomes that are known to be possible and impossible.
#[test]
fn the_checker_agrees_with_the_textbook() {
    let store_buffering = |store, load| Litmus {
        name: "store buffering",
        threads: vec![
            vec![Store("x", NEW, store), Load("y", load)],
            vec![Store("y", NEW, store), Load("x", load)],
        ],
        never: vec![(0, 1, OLD), (1, 1, OLD)],
    };
    assert!(store_buffering(Release, Acquire).is_possible());
    assert!(store_buffering(Release, SeqCst).is_possible());
    assert!(!store_buffering(SeqCst, SeqCst).is_possible());
    let message_passing = |store, load| Litmus {
        name: "message passing",
        threads: vec![
            vec![Store("x", NEW, Relaxed), Store("y", NEW, store)],
            vec![Load("y", load), Load("x", Relaxed)],
        ],
        never: vec![(1, 0, NEW), (1, 1, OLD)],
    };
    assert!(message_passing(Relaxed, Acquire).is_possible());
    assert!(message_passing(Release, Relaxed).is_possible());
    assert!(!message_passing(Release, Acquire).is_possible());
    let fences = |fence| Litmus {
        name: "message passing by fences",
        threads: vec![
            vec![
                Store("x", NEW, Relaxed),
                Fence(fence),
                Store("y", NEW, Relaxed),
            ],
            vec![Load("y", Relaxed), Fence(fence), Load("x", Relaxed)],
        ],
        never: vec![(1, 0, NEW), (1, 2, OLD)],
    };
    assert!(fences(Acquire).is_possible());
    assert!(!fences(AcqRel).is_possible());
    let two_exchanges = Litmus {
        name: "two exchanges read the same",
        threads: vec![vec![Swap("x", NEW, Relaxed)]; 2],
        never: vec![(0, 0, OLD), (1, 0, OLD)],
    };
    assert!(!two_exchanges.is_possible());
}

/// A relation between events: bit `b` of row `a` says that `a` is related to `b`.
type Relation = Vec<u32>;

fn empty(events: usize) -> Relation {
    vec![0; events]
}

fn pairs(events: usize, related: impl Fn(usize, usize) -> bool) -> Relation {
    let row = |a| (0..events).fold(0, |row, b| row | u32::from(related(a, b)) << b);
    (0..events).map(row).collect()
}

fn has(relation: &Relation, a: usize, b: usize) -> bool {
    relation[a] >> b & 1 == 1
}

fn union(all: &[&Relation]) -> Relation {
    let row = |a: usize| all.iter().fold(0, |row, relation| row | relation[a]);
    (0..all[0].len()).map(row).collect()
}

fn then(first: &Relation, second: &Relation) -> Relation {
    let step = |row: &u32| {
        let over = (0..second.len()).filter(|b| row >> b & 1 == 1);
        over.fold(0, |reached, b| reached | second[b])
    };
    first.iter().map(step).collect()
}

fn inverse(relation: &Relation) -> Relation {
    pairs(relation.len(), |a, b| has(relation, b, a))
}

/// One step or more.
fn closure(relation: &Relation) -> Relation {
    let mut closed = relation.clone();
    loop {
        let next = union(&[&closed, &then(&closed, relation)]);
        if next == closed {
            return closed;
        }
        closed = next;
    }
}

fn is_acyclic(relation: &Relation) -> bool {
    let closed = closure(relation);
    (0..closed.len()).all(|a| !has(&closed, a, a))
}

/// An access, and the thread that makes it; `None` for the first value of a location.
#[derive(Clone, Copy)]
struct Event {
    op: Op,
    thread: Option<usize>,
}

impl Litmus {
    fn is_possible(&self) -> bool {
        let mut events = Vec::new();
        let mut ids = vec![Vec::new(); self.threads.len()];
        for (thread, ops) in self.threads.iter().enumerate() {
            for op in ops {
                ids[thread].push(events.len());
                let thread = Some(thread);
                events.push(Event { op: *op, thread });
            }
        }
        let mut locations: Vec<_> = events
            .iter()
            .filter_map(|event| event.op.location())
            .collect();
        locations.sort_unstable();
        locations.dedup();
        for location in &locations {
            let op = Store(location, OLD, Relaxed);
            events.push(Event { op, thread: None });
        }
        let never: Vec<_> = self
            .never
            .iter()
            .map(|(thread, step, value)| (ids[*thread][*step], *value))
            .collect();
        let execution = Execution {
            reads_from: empty(events.len()),
            modified: empty(events.len()),
            events,
        };
        execution.orders(&locations, &mut |execution| execution.reads(0, &never))
    }
}

/// A candidate: which read reads from which write, and the order of the writes to each location.
#[derive(Clone)]
struct Execution {
    events: Vec<Event>,
    reads_from: Relation,
    modified: Relation,
}

impl Execution {
    /// Whether `allowed` holds for some order of the writes to these locations.
    fn orders(&self, locations: &[&str], allowed: &mut impl FnMut(&Self) -> bool) -> bool {
        let Some((location, others)) = locations.split_first() else {
            return allowed(self);
        };
        let of_location = |id: &usize| {
            let event = self.events[*id];
            event.op.location() == Some(location) && event.op.written().is_some()
        };
        let writes: Vec<_> = (0..self.events.len()).filter(of_location).collect();
        let (first, rest): (Vec<_>, Vec<_>) =
            (writes.iter()).partition(|id| self.events[**id].thread.is_none());
        permutations(&rest).into_iter().any(|rest| {
            let order: Vec<usize> = first.iter().copied().chain(rest).copied().collect();
            let mut execution = self.clone();
            for (n, earlier) in order.iter().enumerate() {
                for later in &order[n + 1..] {
                    execution.modified[*earlier] |= 1 << later;
                }
            }
            execution.orders(others, allowed)
        })
    }

    /// Whether some choice of what is read, from event `id` on, is allowed and has the outcome.
    fn reads(&self, id: usize, never: &[(usize, u8)]) -> bool {
        let Some(event) = self.events.get(id) else {
            return self.is_consistent();
        };
        if !event.op.reads() {
            return self.reads(id + 1, never);
        }
        let wanted = never.iter().find(|(read, _)| *read == id);
        (0..self.events.len()).any(|write| {
            let op = self.events[write].op;
            let Some(value) = op.written() else {
                return false;
            };
            if write == id
                || op.location() != event.op.location()
                || wanted.is_some_and(|(_, wanted)| *wanted != value)
            {
                return false;
            }
            let mut execution = self.clone();
            execution.reads_from[write] |= 1 << id;
            execution.reads(id + 1, never)
        })
    }

    fn is_consistent(&self) -> bool {
        let n = self.events.len();
        let op = |a: usize| self.events[a].op;
        let is_fence = |a: usize| matches!(op(a), Fence(_));
        let same_location =
            |a: usize, b: usize| !is_fence(a) && op(a).location() == op(b).location();
        let when = |holds: &dyn Fn(usize) -> bool| pairs(n, |a, b| a == b && holds(a));
        let maybe = |relation: &Relation| union(&[&pairs(n, |a, b| a == b), relation]);

        // First values come before everything; the accesses of a thread in the order of its program.
        let sequenced = pairs(n, |a, b| {
            match (self.events[a].thread, self.events[b].thread) {
                (None, Some(_)) => true,
                (Some(first), Some(second)) => first == second && a < b,
                (_, None) => false,
            }
        });
        let (rf, mo) = (&self.reads_from, &self.modified);
        let from_read = then(&inverse(rf), mo);
        let from_read = pairs(n, |a, b| a != b && has(&from_read, a, b));

        // An exchange reads what its own write follows immediately.
        let between = then(&from_read, mo);
        if (0..n).any(|a| has(&between, a, a)) {
            return false;
        }

        let exchanges = when(&|a| matches!(op(a), Swap(..)));
        let sequence = then(
            &when(&|a| op(a).written().is_some()),
            &maybe(&closure(&then(rf, &exchanges))),
        );
        let fence_then = maybe(&then(&when(&is_fence), &sequenced));
        let then_fence = maybe(&then(&sequenced, &when(&is_fence)));
        let releases = then(&when(&|a| op(a).releases()), &fence_then);
        let acquires = then(&then_fence, &when(&|a| op(a).acquires()));
        let synchronizes = then(&then(&then(&releases, &sequence), rf), &acquires);
        let before = closure(&union(&[&sequenced, &synchronizes]));
        let coherent = closure(&union(&[rf, mo, &from_read]));

        let broken = then(&before, &maybe(&coherent));
        if (0..n).any(|a| has(&broken, a, a)) {
            return false;
        }

        let elsewhere = pairs(n, |a, b| has(&sequenced, a, b) && !same_location(a, b));
        let before_here = pairs(n, |a, b| has(&before, a, b) && same_location(a, b));
        let around = then(&then(&elsewhere, &before), &elsewhere);
        let base = union(&[&sequenced, &around, &before_here, mo, &from_read]);
        let strong = when(&|a| op(a).order() == SeqCst);
        let fences = when(&|a| is_fence(a) && op(a).order() == SeqCst);
        let from = union(&[&strong, &then(&fences, &maybe(&before))]);
        let to = union(&[&strong, &then(&maybe(&before), &fences)]);
        let accesses = then(&then(&from, &base), &to);
        let through = union(&[&before, &then(&then(&before, &coherent), &before)]);
        let of_fences = then(&then(&fences, &through), &fences);
        is_acyclic(&union(&[&accesses, &of_fences]))
    }
}

fn permutations<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |n: usize| {
        let mut rest = items.to_vec();
        let first = rest.remove(n);
        permutations(&rest).into_iter().map(move |mut order| {
            order.insert(0, first);
            order
        })
    };
    (0..items.len()).flat_map(with_first).collect()
}
