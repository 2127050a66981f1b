use super::*;
use proptest::prelude::*;

const DOCUMENT: &str = include_str!("../../../docs/digests.md");

fn key() -> Secret {
    crate::canary::derive_key(&Secret::new("correct horse battery staple"))
}

fn sample() -> Digests {
    let mut digests = Digests::new("2026-01-02T03:04:05Z".parse().unwrap());
    let mut sum = Sum::default();
    sum.add(b"one");
    sum.add(b"two");
    let database = Database {
        server: "15.18".into(),
        exact: true,
        excluded: vec!["public.log*".into()],
        tables: BTreeMap::from([("public.cards".to_owned(), sum.table(["id", "name"]))]),
        materialized_views: BTreeMap::new(),
        sequences: BTreeMap::from([(
            "public.cards_id_seq".to_owned(),
            Sequence { last: 2, called: true, increment: 1 },
        )]),
        large_objects: None,
    };
    digests.postgres.insert("shop".into(), database);
    digests
}

#[test]
fn the_documented_example_is_real() {
    let text = sample().to_file(Some(&key())).unwrap();
    assert!(DOCUMENT.contains(text.trim_end()), "expected\n{text}");
}

#[test]
fn digests_survive_the_way_through_their_file() {
    let text = sample().to_file(Some(&key())).unwrap();
    let back = Sealed::parse(text.as_bytes()).unwrap();
    assert_eq!(back.digests, sample());
    assert!(back.is_signed() && back.verify(&key()) && !back.verify(&Secret::new("another")));
    let unsigned = Sealed::parse(sample().to_file(None).unwrap().as_bytes()).unwrap();
    assert!(!unsigned.is_signed() && !unsigned.verify(&key()));
    let forged = Sealed::parse(text.replace("\"rows\": 2", "\"rows\": 3").as_bytes()).unwrap();
    assert!(forged.is_signed() && !forged.verify(&key()));
}

#[test]
fn what_is_no_file_of_digests_is_refused_with_a_reason() {
    let text = sample().to_file(Some(&key())).unwrap();
    let refused = |content: &str| Sealed::parse(content.as_bytes()).unwrap_err().to_string();
    assert!(refused("").contains("empty"));
    assert!(refused(&text[..text.len() / 2]).contains("EOF"));
    assert!(refused(&text.replace("digests\":1", "digests\":2")).contains("version 2"));
    assert!(refused(&text.replace("\"signature\":\"", "\"signature\":\"0")).contains("64"));
    assert!(refused(&text.replace("\"digest\": \"", "\"digest\": \"x")).contains("32"));
    assert!(refused(&text.replace("\"server\"", "\"sever\"")).contains("unknown field"));
    assert!(refused(&" ".repeat(LENGTH_MAX + 1)).contains("longer"));
}

#[test]
fn sums_of_databases_are_read_signed_or_not() {
    let of = |high: &str, low: &str| Sum::of_parts(2, high, low).unwrap();
    assert_eq!(of("-1", "5"), of("18446744073709551615", "5"));
    assert_eq!(of("36893488147419103237", "0"), of("5", "0"));
    assert!(Sum::of_parts(1, "NULL", "0").is_none());
}

#[test]
fn a_sequence_behind_is_told_from_one_ahead() {
    let at = |last: i64, called: bool, increment: i64| Sequence { last, called, increment };
    assert!(at(5, true, 1).is_ahead_of(&at(4, true, 1)));
    assert!(at(1, true, 1).is_ahead_of(&at(1, false, 1)));
    assert!(!at(5, true, 1).is_ahead_of(&at(5, true, 1)) && !at(5, true, 1).is_ahead_of(&at(9, true, 1)));
    assert!(at(-5, true, -1).is_ahead_of(&at(-4, true, -1)));
    assert!(at(i64::MIN, true, -1).is_ahead_of(&at(0, true, -1)));
}

#[test]
fn patterns_fit_whole_names() {
    for (pattern, name) in
        [("a", "a"), ("*", ""), ("public.*", "public.x"), ("*.log", "a.log"), ("a*b*c", "axbbc")]
    {
        assert!(matches(pattern, name), "{pattern} {name}");
    }
    for (pattern, name) in [("a", "ab"), ("a*b", "ba"), ("ab*ba", "aba"), ("*x*", "abc")] {
        assert!(!matches(pattern, name), "{pattern} {name}");
    }
}

proptest! {
    #[test]
    fn the_order_of_items_does_not_matter_and_their_number_does(mut items in proptest::collection::vec(".{0,9}", 1..20)) {
        let sum = |items: &[String]| {
            let mut sum = Sum::default();
            items.iter().for_each(|item| sum.add(item.as_bytes()));
            sum
        };
        let forth = sum(&items);
        items.reverse();
        prop_assert_eq!(forth, sum(&items));
        let twice = items[0].clone();
        items.push(twice);
        prop_assert_ne!(forth.digest(["a"]), sum(&items).digest(["a"]));
        prop_assert_ne!(forth.digest(["a"]), forth.digest(["b"]));
    }

    #[test]
    fn every_path_can_be_written(path in proptest::collection::vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(path_bytes(&path_text(&path)), path);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), text in ".{0,20}") {
        let _ = Sealed::parse(&bytes);
        let _ = path_bytes(&text);
        let _ = matches(&text, "abc");
    }
}
