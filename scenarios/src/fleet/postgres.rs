//! PostgreSQL dumps in plain SQL, as `pg_dump` 15 writes them: one that is overwritten each day, and one
//! gzipped file per day.

use anyhow::{Context as _, Result};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::stage::Stage;
use super::{Sizes, Workload, content};

const DUMP: &str = "backup/postgres/cardboard.sql";

const HEAD: &str = "
-- Dumped from database version 15.18
-- Dumped by pg_dump version 15.18

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: cards; Type: TABLE; Schema: public; Owner: cardboard
--

CREATE TABLE public.cards (
    id bigint NOT NULL,
    name text NOT NULL,
    quantity integer NOT NULL,
    updated_at timestamp with time zone NOT NULL
);


--
-- Name: events; Type: TABLE; Schema: public; Owner: cardboard
--

CREATE TABLE public.events (
    id bigint NOT NULL,
    card_id bigint NOT NULL,
    note text
);


";

const TAIL: &str = "--
-- Name: cards cards_pkey; Type: CONSTRAINT; Schema: public; Owner: cardboard
--

ALTER TABLE ONLY public.cards
    ADD CONSTRAINT cards_pkey PRIMARY KEY (id);


--
-- Name: events events_pkey; Type: CONSTRAINT; Schema: public; Owner: cardboard
--

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id);


--
-- Name: events events_card_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: cardboard
--

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_card_id_fkey FOREIGN KEY (card_id) REFERENCES public.cards(id);


--
-- PostgreSQL database dump complete
--

";

pub(super) struct Postgres {
    start: usize,
    cards: Vec<String>,
    events: Vec<String>,
}

impl Postgres {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self { start: sizes.rows, cards: Vec::new(), events: Vec::new() }
    }

    fn dump(&self, rng: &mut StdRng) -> String {
        let token = hex::encode(content::noise(rng, 32));
        let mut dump = format!("--\n-- PostgreSQL database dump\n--\n\n\\restrict {token}\n{HEAD}");
        copy(&mut dump, "cards", "id, name, quantity, updated_at", &self.cards);
        copy(&mut dump, "events", "id, card_id, note", &self.events);
        dump.push_str(TAIL);
        dump.push_str(&format!("\\unrestrict {token}\n\n"));
        dump
    }
}

impl Workload for Postgres {
    fn evolve(&mut self, stage: &mut Stage, day: u32) -> Result<()> {
        let now = stage.now();
        let rows = if day == 0 { self.start } else { self.start.div_ceil(20) };
        for _ in 0..rows {
            let id = self.cards.len() + 1;
            let quantity = stage.rng.random_range(0..500);
            self.cards.push(format!(
                "{id}\t{}\t{quantity}\t{}",
                content::title(&mut stage.rng),
                now.strftime("%Y-%m-%d %H:%M:%S+00")
            ));
            for _ in 0..2 {
                let event = self.events.len() + 1;
                let card = stage.rng.random_range(1..=id);
                let note = if stage.rng.random_ratio(1, 8) {
                    "\\N".to_owned()
                } else {
                    content::title(&mut stage.rng)
                };
                self.events.push(format!("{event}\t{card}\t{note}"));
            }
        }
        let dump = self.dump(&mut stage.rng);
        stage.write_with_mode(DUMP, dump.as_bytes(), 0o640)?;
        stage.write_with_mode(gzipped(stage), &content::gzip(dump.as_bytes()), 0o640)
    }
}

/// Cuts both of today's dumps after two thirds of their rows, in the middle of one.
pub(super) fn cut(stage: &mut Stage) -> Result<()> {
    let dump = std::fs::read(stage.path(DUMP)).context("read the dump")?;
    let cut = dump.get(..dump.len() * 2 / 3).unwrap_or_default().trim_ascii_end().to_vec();
    stage.write_with_mode(DUMP, &cut, 0o640)?;
    stage.write_with_mode(gzipped(stage), &content::gzip(&cut), 0o640)
}

fn gzipped(stage: &Stage) -> String {
    format!("backup/postgres/cardboard-{}.sql.gz", stage.now().strftime("%Y%m%d-%H%M%S"))
}

fn copy(dump: &mut String, table: &str, columns: &str, rows: &[String]) {
    dump.push_str(&format!(
        "--\n-- Data for Name: {table}; Type: TABLE DATA; Schema: public; Owner: cardboard\n--\n\n"
    ));
    dump.push_str(&format!("COPY public.{table} ({columns}) FROM stdin;\n"));
    for row in rows {
        dump.push_str(row);
        dump.push('\n');
    }
    dump.push_str("\\.\n\n\n");
}
