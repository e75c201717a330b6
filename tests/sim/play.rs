//! Plays a scenario with a real worker, to its end. Not here: which scenarios.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use cairn::buffer::{Buffers, Pool};
use cairn::id::WorkerId;
use cairn::uring::{Ring, Waker};
use cairn::worker::{Load, Worker};

use crate::machine::Machine;
use crate::operator::Operator;
use crate::scenario::Scenario;
use crate::world::World;

/// How a world ended that it should not have.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What was found wrong.
    pub(crate) text: String,
    /// What happened, if it was to be told.
    pub(crate) story: Vec<String>,
}

/// Large buffers of every world.
const HEAD_BUFFERS: usize = 32;

thread_local! {
    /// Pools that no world holds, by the number of their buffers.
    static POOLS: RefCell<Vec<[&'static Pool; 2]>> = const { RefCell::new(Vec::new()) };
    /// What a panic of this thread said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static PLAYS: Cell<bool> = const { Cell::new(false) };
}

/// Has panics of worlds be kept instead of printed, and nothing be logged of what their workers run out of.
pub(crate) fn catch_panics() {
    cairn::event_log::silence();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if PLAYS.get() {
            PANIC.set(Some(panic.to_string()));
        } else {
            before(panic);
        }
    }));
}

/// Plays a scenario and returns what happened, if it `tells`.
pub(crate) fn play(scenario: &Scenario, tells: bool) -> Result<Vec<String>, Failure> {
    let pools = take_pools(scenario.kernel.buffers);
    let world = Rc::new(RefCell::new(World::new(Rc::new(scenario.clone()), pools, tells)));
    PLAYS.set(true);
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| run(&world, pools)));
    PLAYS.set(false);
    let mut failed = None;
    match played {
        Err(_) => failed = Some(PANIC.take().unwrap_or_default()),
        Ok(Err(text)) => failed = Some(text),
        Ok(Ok(())) => {
            let free = pools.map(Pool::available);
            if free == pools.map(Pool::capacity) {
                POOLS.with_borrow_mut(|known| known.push(pools));
            } else {
                failed = Some(format!("{free:?} of {:?} buffers have come back", pools.map(Pool::capacity)));
            }
        }
    }
    // A panic may have left it borrowed.
    let story = world.try_borrow_mut().ok().and_then(|mut world| world.net.story.take()).unwrap_or_default();
    match failed {
        Some(text) => Err(Failure { text, story }),
        None => Ok(story),
    }
}

fn take_pools(buffers: usize) -> [&'static Pool; 2] {
    POOLS.with_borrow_mut(|known| match known.iter().position(|pools| pools[0].capacity() == buffers) {
        Some(at) => known.swap_remove(at),
        None => Buffers::reserve(buffers, HEAD_BUFFERS).expect("address space"),
    })
}

fn run(world: &Rc<RefCell<World>>, pools: [&'static Pool; 2]) -> Result<(), String> {
    let machine = Machine { world: Rc::clone(world), waker: Waker::new().expect("a descriptor") };
    let (mut operator, sockets) = {
        let World { net, scenario, .. } = &mut *world.borrow_mut();
        Operator::new(net, scenario)
    };
    let snapshot = operator.snapshot();
    let ring = Ring::on(machine, Buffers::over(pools)).map_err(|error| error.to_string())?;
    let (mut worker, handle) = Worker::on(ring, WorkerId(0), 1, snapshot, sockets);
    operator.handle = Some(handle);
    world.borrow_mut().operator = Some(operator);
    let ended = turn_to_the_end(world, &mut worker);
    drop(worker);
    ended.and_then(|()| check(world))
}

/// The first thing that was found wrong.
fn check(world: &RefCell<World>) -> Result<(), String> {
    world.borrow().net.violation.clone().map_or(Ok(()), Err)
}

/// How far a world has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Clients, origins and the operator do what they have planned.
    Busy,
    /// Nothing is left of it; the last clients come.
    Probed,
    /// They have gone, too; the worker is to end.
    Drained,
}

fn turn_to_the_end(world: &Rc<RefCell<World>>, worker: &mut Worker<Machine>) -> Result<(), String> {
    let patience = world.borrow().scenario.patience();
    let mut phase = Phase::Busy;
    loop {
        let ended = worker.turn(true).map_err(|error| error.to_string())?;
        let load = worker.load();
        let mut world = world.borrow_mut();
        let is_draining = world.operator.as_ref().is_some_and(|operator| operator.drained.is_some());
        if ended {
            if !is_draining {
                return Err("the worker ends by itself".to_owned());
            }
            world.exit();
            if phase != Phase::Drained {
                world.judge();
            }
        } else {
            world.after_turn(&load);
            if world.net.now.saturating_sub(world.net.active) > patience {
                phase = world.go_on(phase, &load)?;
            }
        }
        if let Some(text) = &world.net.violation {
            return Err(text.clone());
        }
        if ended {
            return Ok(());
        }
    }
}

impl World {
    /// Nothing has happened for longer than anybody is waited for.
    fn go_on(&mut self, phase: Phase, load: &Load) -> Result<Phase, String> {
        self.at_rest(load);
        self.net.active = self.net.now;
        let Some(operator) = self.operator.as_mut() else { return Ok(phase) };
        let is_draining = operator.drained.is_some();
        match phase {
            _ if is_draining => Err(format!("the worker does not end: {load:?}")),
            Phase::Busy => {
                self.probe();
                Ok(Phase::Probed)
            }
            Phase::Probed => {
                operator.drain(&mut self.net);
                self.judge();
                Ok(Phase::Drained)
            }
            Phase::Drained => Err(format!("the worker does not end: {load:?}")),
        }
    }
}
