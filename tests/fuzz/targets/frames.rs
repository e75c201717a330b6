//! The reader of HTTP/2 frames: any bytes in any cuts, with the parameters and windows that they change.
#![no_main]

use cairn::http2::flow::{ReceiveWindow, SendWindow, WINDOW_MAX};
use cairn::http2::settings::Change;
use cairn::http2::{Error, Event, FrameReader, Settings, Side};
use libfuzzer_sys::fuzz_target;

/// What does not depend on the cuts.
#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    content: Vec<u8>,
    fragments: Vec<u8>,
    padding: usize,
    settings: Settings,
    error: Option<Error>,
}

fn read(sender: Side, bytes: &[u8], mut step: impl FnMut() -> usize) -> Outcome {
    let mut reader = FrameReader::new(sender, 16_384);
    let (mut send, mut receive) = (SendWindow::new(65_535), ReceiveWindow::new(65_535));
    let mut outcome = Outcome {
        events: Vec::new(),
        content: Vec::new(),
        fragments: Vec::new(),
        padding: 0,
        settings: Settings::default(),
        error: None,
    };
    let (mut at, mut arrived) = (0, 0);
    while arrived < bytes.len() {
        arrived = (arrived + step().max(1)).min(bytes.len());
        loop {
            let part = match reader.next(&bytes[at..arrived]) {
                Ok(part) => part,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            };
            let taken = &bytes[at..at + part.len];
            at += part.len;
            match part.event {
                Event::NeedMore => break,
                Event::Skip => {}
                Event::Content => outcome.content.extend_from_slice(taken),
                Event::Fragment => outcome.fragments.extend_from_slice(taken),
                Event::Padding => outcome.padding += taken.len(),
                event => {
                    if let Event::DataEnd { .. } = event {
                        outcome.padding += taken.len();
                    }
                    outcome.events.push(event);
                    if let Err(error) = apply(event, sender, &mut outcome.settings, &mut send, &mut receive) {
                        outcome.error = Some(error);
                        return outcome;
                    }
                    assert!(send.available() <= WINDOW_MAX && receive.left() <= 65_535);
                }
            }
        }
        assert_eq!(at, arrived, "bytes were left");
    }
    outcome
}

fn apply(
    event: Event,
    sender: Side,
    settings: &mut Settings,
    send: &mut SendWindow,
    receive: &mut ReceiveWindow,
) -> Result<(), Error> {
    let scope = cairn::http2::Scope::Connection;
    match event {
        Event::Setting(setting) => {
            if let Change::Windows(by) = settings.apply(sender, setting)? {
                send.shift(by).map_err(|error| error.of(scope))?;
            }
        }
        Event::WindowUpdate { increment, .. } => send.increase(increment).map_err(|error| error.of(scope))?,
        Event::Data { flow_length, .. } => {
            receive.receive(flow_length).map_err(|error| error.of(scope))?;
            receive.free(flow_length);
            _ = receive.update();
        }
        _ => {}
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let sender = if cut & 1 == 0 { Side::Client } else { Side::Server };
    // The first frame has to be SETTINGS, so that inputs need not find that.
    let bytes = [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], bytes].concat();
    let whole = read(sender, &bytes, || bytes.len());
    let mut seed = u32::from(cut);
    let cuts = read(sender, &bytes, || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as usize % 13
    });
    assert_eq!(whole, cuts, "a cut changes the result");
});
