//! Cost of time-outs. Each case checks what fires. Not here: reading clocks.

use std::hint::black_box;

use cairn::runtime::{Tick, Wheel};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const TIMERS: u32 = 10_000;
/// 10 s of 16 ms, a usual time-out.
const LATER: Tick = 625;

/// What each exchange does: the deadline moves on, again and again.
fn postpone(criterion: &mut Criterion) {
    let (mut wheel, mut due) = (Wheel::default(), Vec::new());
    (0..TIMERS).for_each(|timer| wheel.set(timer, LATER));
    let (mut timer, mut now) = (0, 0);
    criterion.bench_function("wheel/postpone/10,000 timers", |bencher| {
        bencher.iter(|| {
            timer += 1;
            if timer == TIMERS {
                // A tick for each round, so that no timer is ever late.
                (timer, now) = (0, now + 1);
                wheel.expire(now, &mut due);
            }
            wheel.set(black_box(timer), now + LATER);
        });
    });
    assert!(due.is_empty(), "nothing fires that is postponed");
    wheel.expire(now + LATER + 1, &mut due);
    due.sort_unstable();
    assert!(due.into_iter().eq(0..TIMERS), "all fire in the end");
}

/// A connection comes and goes.
fn set_and_clear(criterion: &mut Criterion) {
    let mut wheel = Wheel::default();
    let mut timer = 0;
    criterion.bench_function("wheel/set, shorten and clear", |bencher| {
        bencher.iter(|| {
            timer = (timer + 1) % TIMERS;
            wheel.set(black_box(timer), LATER);
            wheel.set(timer, LATER / 2);
            wheel.clear(timer);
            wheel.take_due(timer)
        });
    });
    let mut due = Vec::new();
    wheel.expire(LATER, &mut due);
    assert!(due.is_empty(), "cleared timers do not fire");
}

/// What a turn costs when nothing is due, and when all is.
fn expire(criterion: &mut Criterion) {
    let armed = || {
        let mut wheel = Wheel::default();
        (0..TIMERS).for_each(|timer| wheel.set(timer, 1 + Tick::from(timer) % LATER));
        (wheel, Vec::with_capacity(TIMERS as usize))
    };
    let (mut wheel, mut due) = armed();
    let mut now = 0;
    while now < LATER {
        let next = wheel.next().expect("a timer is set");
        assert!(next > now);
        now = next;
        wheel.expire(now, &mut due);
    }
    assert_eq!((due.len(), wheel.next()), (TIMERS as usize, None));
    criterion.bench_function("wheel/expire/10,000 timers in 625 ticks", |bencher| {
        bencher.iter_batched(
            armed,
            |(mut wheel, mut due)| {
                wheel.expire(black_box(LATER), &mut due);
                (wheel, due)
            },
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, postpone, set_and_clear, expire);
criterion_main!(benches);
