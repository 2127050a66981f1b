//! Velero, as far as somebody sees it who only has its bucket: a folder for each backup, data beside, and what is
//! too old goes. Nobody but Velero writes there.

use std::path::{Path, PathBuf};

use firedrill_core::seed;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Daily at 03:00, for a week; on Sundays at 04:00, for 30 days.
const SCHEDULES: [(&str, i8, bool, i64); 2] = [("daily-stateful", 3, false, 7), ("weekly-full", 4, true, 30)];

pub(super) struct Velero {
    bucket: PathBuf,
    /// Up to when it has worked.
    until: Timestamp,
    seed: u64,
    /// The backups there are: until when, the folder, and its data.
    there: Vec<(Timestamp, PathBuf, PathBuf)>,
}

impl Velero {
    pub(super) fn new(bucket: PathBuf, from: Timestamp, seed: u64) -> Self {
        let until = from - SignedDuration::from_secs(from.as_second().rem_euclid(3600));
        Self { bucket, until, seed, there: Vec::new() }
    }

    /// Makes up for everything that it does until `now`.
    pub(super) fn work(&mut self, now: Timestamp) {
        while self.until < now {
            self.until += SignedDuration::from_hours(1);
            let zoned = self.until.to_zoned(TimeZone::UTC);
            for (name, hour, weekly, days) in SCHEDULES {
                let today = !weekly || zoned.weekday() == Weekday::Sunday;
                if zoned.hour() == hour && zoned.minute() == 0 && today {
                    let time = zoned.strftime("%Y%m%d%H%M%S").to_string();
                    self.back_up(&format!("{name}-{time}"), SignedDuration::from_hours(24 * days));
                }
            }
            let (old, young) =
                std::mem::take(&mut self.there).into_iter().partition(|(end, ..)| *end <= self.until);
            self.there = young;
            for (_, folder, data) in old {
                std::fs::remove_dir_all(folder).unwrap();
                std::fs::remove_file(data).unwrap();
            }
        }
    }

    fn back_up(&mut self, name: &str, lasts: SignedDuration) {
        let mut chance = StdRng::seed_from_u64(seed::child(self.seed, name));
        let mut noise = |bytes: usize| {
            let mut noise = vec![0; bytes];
            chance.fill_bytes(&mut noise);
            noise
        };
        let folder = self.bucket.join("backups").join(name);
        let data = self.bucket.join("kopia/default").join(format!("p{name}"));
        write(&folder.join("velero-backup.json"), format!("{{\"name\": \"{name}\"}}").as_bytes());
        write(&folder.join(format!("{name}.tar.gz")), &noise(2000));
        write(&folder.join(format!("{name}-logs.gz")), &noise(300));
        write(&data, &noise(3000));
        // Written again and again under the same name.
        write(&self.bucket.join("kopia/default/kopia.maintenance"), &noise(100));
        self.there.push((self.until + lasts, folder, data));
    }

    /// Backups that have not expired.
    pub(super) fn backups(&self) -> usize {
        self.there.len()
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}
