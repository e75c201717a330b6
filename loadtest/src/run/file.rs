//! Scenario files: requests with weights, and rates over time, in TOML. Not here: checking URLs or sending.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::mix::filler;
use super::ramp::Step;
use crate::args::{self, Sha256};

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("{0}:{1}: {2}")]
    RequestForm(PathBuf, usize, String),
    #[error("{0}: {1}")]
    Sense(PathBuf, &'static str),
}

/// A scenario file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub(super) connections: Option<u32>,
    pub(super) pipeline: Option<u16>,
    #[serde(default)]
    pub(super) close: bool,
    #[serde(default)]
    pub(super) poisson: bool,
    #[serde(default, deserialize_with = "duration")]
    pub(super) timeout: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    pub(super) warmup: Option<Duration>,
    #[serde(default, rename = "request")]
    pub(super) requests: Vec<Request>,
    #[serde(default, rename = "step")]
    steps: Vec<StepText>,
}

/// One of the requests that are mixed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// A URL, or a path of the command line's URL.
    pub(super) url: String,
    #[serde(default = "one")]
    pub(super) weight: u16,
    pub(super) method: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    body: Option<String>,
    #[serde(default, deserialize_with = "size")]
    body_size: Option<u64>,
    /// Path of the body, relative to the folder of the scenario.
    body_file: Option<PathBuf>,
    pub(super) expect_status: Option<u16>,
    #[serde(default, deserialize_with = "size")]
    pub(super) expect_length: Option<u64>,
    #[serde(default, deserialize_with = "digest")]
    pub(super) expect_sha256: Option<Sha256>,
    /// The body, from one of the three keys above.
    #[serde(skip)]
    pub(super) content: Option<Vec<u8>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepText {
    #[serde(deserialize_with = "needed_duration")]
    duration: Duration,
    rate: Rate,
}

/// `1000`, or `[1000, 5000]` for a ramp.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Rate {
    Even(f64),
    Ramp([f64; 2]),
}

impl Scenario {
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let text = fs::read_to_string(path).map_err(|error| FileError::Read(path.into(), error))?;
        let mut scenario: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            FileError::RequestForm(path.into(), line, error.message().replace('\n', " "))
        })?;
        let nonsense = |what| Err(FileError::Sense(path.into(), what));
        if scenario.requests.is_empty() {
            return nonsense("there is no [[request]]");
        }
        if scenario.requests.iter().any(|request| !(1..=1000).contains(&request.weight)) {
            return nonsense("a weight is a number from 1 to 1000");
        }
        if scenario.requests.iter().any(|request| request.bodies() > 1) {
            return nonsense("a request has one of body, body_size and body_file");
        }
        let rates = scenario.steps.iter().flat_map(|step| [step.rate.ends().0, step.rate.ends().1]);
        if rates.into_iter().any(|rate| !(0.0..=1e9).contains(&rate)) {
            return nonsense("a rate is from 0 to 1000000000");
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for request in &mut scenario.requests {
            request.content = request.load(folder)?;
        }
        Ok(scenario)
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let step = |text: &StepText| {
            let (from, to) = text.rate.ends();
            Step { duration: text.duration, from, to }
        };
        self.steps.iter().map(step).collect()
    }
}

impl Request {
    fn bodies(&self) -> usize {
        [self.body.is_some(), self.body_size.is_some(), self.body_file.is_some()].iter().filter(|is| **is).count()
    }

    fn load(&self, folder: &Path) -> Result<Option<Vec<u8>>, FileError> {
        if let Some(file) = &self.body_file {
            let path = folder.join(file);
            return fs::read(&path).map(Some).map_err(|error| FileError::Read(path, error));
        }
        let filler = self.body_size.map(filler);
        Ok(self.body.clone().map(String::into_bytes).or(filler))
    }
}

impl Rate {
    fn ends(self) -> (f64, f64) {
        match self {
            Self::Even(rate) => (rate, rate),
            Self::Ramp([from, to]) => (from, to),
        }
    }
}

fn one() -> u16 {
    1
}

fn duration<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Duration>, D::Error> {
    needed_duration(from).map(Some)
}

fn needed_duration<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
    args::duration(&String::deserialize(from)?).map_err(de::Error::custom)
}

fn size<'a, D: Deserializer<'a>>(from: D) -> Result<Option<u64>, D::Error> {
    /// `65536` or `"64KiB"`.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Bytes(u64),
        Text(String),
    }
    match Size::deserialize(from)? {
        Size::Bytes(bytes) => Ok(Some(bytes)),
        Size::Text(text) => args::size(&text).map(Some).map_err(de::Error::custom),
    }
}

fn digest<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Sha256>, D::Error> {
    args::digest(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scenario, FileError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s.toml");
        fs::write(&path, text).expect("a file");
        Scenario::read(&path)
    }

    #[test]
    fn bundled_scenarios_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario");
        let files = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
        let names: Vec<_> =
            files.map(|path| Scenario::read(&path).map(|_| path)).collect::<Result<_, _>>().expect("valid");
        assert!(names.len() >= 3);
    }

    #[test]
    fn steps_are_even_or_ramps() {
        let text = "[[request]]\nurl = '/'\nbody_size = '1KiB'\n[[step]]\nduration = '1s'\nrate = 5\n\
                    [[step]]\nduration = '2s'\nrate = [5, 10]\n";
        let scenario = read(text).expect("valid");
        let step = |seconds, from, to| Step { duration: Duration::from_secs(seconds), from, to };
        assert_eq!(scenario.steps(), [step(1, 5.0, 5.0), step(2, 5.0, 10.0)]);
        assert_eq!(scenario.requests[0].content.as_ref().map(Vec::len), Some(1024));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, says) in [
            ("", "no [[request]]"),
            ("[[request]]\nurl = '/'\nwieght = 3\n", ":3: unknown field `wieght`"),
            ("[[request]]\nurl = '/'\nweight = 0\n", "a weight is"),
            ("[[request]]\nurl = '/'\nbody = 'a'\nbody_size = 3\n", "one of body"),
            ("[[request]]\nurl = '/'\nbody_file = 'nothing'\n", "cannot read"),
            ("[[request]]\nurl = '/'\n[[step]]\nduration = '1'\nrate = 1\n", ":4: write a number and its unit"),
            ("[[request]]\nurl = '/'\n[[step]]\nduration = '1s'\nrate = -1\n", "a rate is"),
            ("[[request]]\nurl = '/'\n[[step]]\nduration = '1s'\nrate = [1]\n", ":5: "),
        ] {
            let complaint = read(text).expect_err(text).to_string();
            assert!(complaint.contains(says) && complaint.lines().count() == 1, "{complaint}");
        }
    }
}
