//! The many small files of a target.

use anyhow::Result;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::stage::Stage;

/// Files that are made from a number. A fiftieth of them changes each day, and a fiftieth is added.
pub(super) struct Bulk {
    start: usize,
    average: usize,
    next: usize,
    path: fn(usize) -> String,
    content: fn(&mut StdRng, usize) -> Vec<u8>,
}

impl Bulk {
    /// `start` files of `average` bytes.
    pub(super) fn new(
        start: usize,
        average: usize,
        path: fn(usize) -> String,
        content: fn(&mut StdRng, usize) -> Vec<u8>,
    ) -> Self {
        Self { start, average, next: 0, path, content }
    }

    /// Makes the files on day 0, and changes and adds some on each later day.
    pub(super) fn evolve(&mut self, stage: &mut Stage, day: u32) -> Result<()> {
        if day == 0 {
            return (0..self.start).try_for_each(|_| self.add(stage));
        }
        let some = self.start.div_ceil(50);
        for _ in 0..some.min(self.next) {
            let number = stage.rng.random_range(0..self.next);
            self.write(stage, number)?;
        }
        (0..some).try_for_each(|_| self.add(stage))
    }

    fn add(&mut self, stage: &mut Stage) -> Result<()> {
        let number = self.next;
        self.next += 1;
        self.write(stage, number)
    }

    fn write(&self, stage: &mut Stage, number: usize) -> Result<()> {
        let length = stage.rng.random_range(self.average / 4..=self.average * 7 / 4);
        let content = (self.content)(&mut stage.rng, length);
        stage.write((self.path)(number), &content)
    }
}
