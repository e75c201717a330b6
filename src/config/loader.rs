//! Loads a configuration again and again, and remembers what the next load needs. Not here: when to load (`control`).

use std::path::{Path, PathBuf};

use super::outside::Outside;
use super::{Config, Report, files, read};

/// A configuration on disk.
#[derive(Clone, Debug)]
pub struct Loader {
    path: PathBuf,
    files: Vec<PathBuf>,
}

impl Loader {
    /// For a file, or a directory with `cairn.toml` and `conf.d/*.toml`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let files = vec![path.clone()];
        Self { path, files }
    }

    /// Reads it as it stands now.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&mut self) -> Result<Config, Report> {
        self.files.clear();
        let sources = files::read(&self.path, &mut self.files)?;
        let mut outside = Outside::default();
        let config = read(sources, &mut outside);
        self.files.extend(outside.files().map(Path::to_owned));
        let mut config = config?;
        config.files.clone_from(&self.files);
        Ok(config)
    }

    /// Every file and directory that the last load read or looked for, whether it succeeded or not.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}
