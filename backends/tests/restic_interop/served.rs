//! The same through a real rest-server, set up in the ways that people set it up.

use crate::support::awkward;
use crate::support::compare::{Allow, assert_same_tree, listing};
use crate::support::faulty_server::FaultyServer;
use crate::support::firedrill::restore_with_firedrill;
use crate::support::rest_server::{RestServer, Setup};
use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::Workplace;

/// A server with one repository that holds one awkward snapshot.
struct Served {
    place: Workplace,
    server: RestServer,
    repository: Repository,
    id: String,
}

impl Served {
    fn new(setup: Setup) -> Option<Self> {
        let restic = Restic::need("0.19")?;
        let place = Workplace::new();
        let source = place.folder("source");
        awkward::build(&source);
        let server = RestServer::start(&place, setup)?;
        let access = Access { authority: server.authority.clone(), ..Access::to(server.url("fleet")) };
        let repository = Repository::init(&restic, access, "2");
        let id = repository.backup(&source, &["files"], &[]);
        Some(Self { place, server, repository, id })
    }

    /// Both restore, from the server as it stands; the result is the same and the server untouched.
    fn assert_restores(&self) {
        let (by_restic, by_firedrill) = (self.place.folder("by-restic"), self.place.folder("by-firedrill"));
        self.repository.restore(&self.id, &by_restic);
        let before = listing(&self.server.folder);
        restore_with_firedrill(&self.repository.access, &self.id, &by_firedrill).expect_clean();
        assert_eq!(before, listing(&self.server.folder), "the restore touched the repository");
        assert_same_tree(&by_restic, &by_firedrill, Allow::WhatScratchWithholds);
    }
}

#[test]
fn an_open_server() {
    if let Some(served) = Served::new(Setup::default()) {
        served.assert_restores();
    }
}

#[test]
fn passwords_private_repositories_and_append_only() {
    let setup = Setup { passwords: true, private: true, append_only: true, ..Setup::default() };
    let Some(served) = Served::new(setup) else { return };
    served.assert_restores();

    let refused = |url: String| {
        let access = Access { url, ..served.repository.access.clone() };
        let into = served.place.folder("refused");
        let outcome = restore_with_firedrill(&access, &served.id, &into);
        assert!(!outcome.is_clean() && outcome.findings.is_empty(), "{outcome:?}");
    };
    let good = &served.repository.access.url;
    refused(good.replace("alice:wonder", "alice:blunder"));
    refused(good.replace("/alice/fleet", "/bob/fleet"));
    refused(good.replace("/alice/fleet", "/alice/nothing"));
}

#[test]
fn a_certificate_of_an_own_authority() {
    let Some(served) = Served::new(Setup { passwords: true, tls: true, ..Setup::default() }) else { return };
    served.assert_restores();

    // Without the authority the server could be anybody. (restic tries that again and again.)
    let access = Access { authority: None, ..served.repository.access.clone() };
    let outcome = restore_with_firedrill(&access, &served.id, &served.place.folder("refused"));
    assert!(!outcome.is_clean() && outcome.findings.is_empty(), "{outcome:?}");
}

#[test]
fn a_restore_test_only_reads() {
    let Some(served) = Served::new(Setup::default()) else { return };
    let proxy = FaultyServer::in_front_of(served.server.address, &[]);
    let url = served.server.url_through(proxy.address, "fleet");
    let access = Access { url, ..served.repository.access.clone() };
    restore_with_firedrill(&access, &served.id, &served.place.folder("restored")).expect_clean();
    let seen = proxy.seen();
    assert!(!seen.is_empty(), "nothing came through the proxy");
    for request in seen {
        assert!(["GET", "HEAD"].contains(&request.method.as_str()), "{request:?}");
        assert!(!request.path.contains("/locks/"), "{request:?}");
    }
}
