//! Another host writes under the tag.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::Victim;

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "other-host",
    class: Class::Source,
    summary: "another host writes under the tag",
    what: "A staging system was set up with a copy of the configuration of production. Whoever restores the \
        latest snapshot of the tag gets its data.",
    notice: "The host of the snapshot is another one than before.",
    act: "Give each system a tag or a repository of its own. The snapshot before this one is the right one.",
    seen: &["cupcakearmy/autorestic#294"],
    not_verified: "Another system under the same host name.",
    codes: &["shape.host"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, _| {
        staged.host = format!("{}-staging", staged.host);
        Ok(format!("a snapshot by {}", staged.host))
    })
}
