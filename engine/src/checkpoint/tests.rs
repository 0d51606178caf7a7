use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A safetensors file with this header and so many bytes of counting data.
fn file(header: &Value, data_bytes: usize) -> Vec<u8> {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data_bytes).map(|i| (i % 251) as u8));
    bytes
}

/// Tensors `a` F32 [4, 6] and `b` U8 [8].
fn sound_header() -> Value {
    json!({
        "__metadata__": {"format": "mlx"},
        "a": {"dtype": "F32", "shape": [4, 6], "data_offsets": [0, 96]},
        "b": {"dtype": "U8", "shape": [8], "data_offsets": [96, 104]},
    })
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn open_one(bytes: Vec<u8>) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(folder(&[("model.safetensors", bytes)]).path())
}

fn rows(range: Range<usize>) -> Part {
    Part::Rows(Vec::from([range]))
}

fn refusal(bytes: Vec<u8>) -> String {
    open_one(bytes).expect_err("must be refused").to_string()
}

#[test]
fn a_rank_reads_only_the_bytes_of_its_part() {
    let dir = folder(&[("model.safetensors", file(&sound_header(), 104))]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.bytes_read(), 0, "opening reads headers only");
    let all = checkpoint.read("a", &Part::All).unwrap();
    assert_eq!(all, (0..96).map(|i| i as u8).collect::<Vec<_>>());
    assert_eq!(checkpoint.bytes_read(), 96);

    let last_and_first = checkpoint.read("a", &Part::Rows(vec![3..4, 0..1])).unwrap();
    assert_eq!(last_and_first, [&all[72..96], &all[..24]].concat());
    let columns = checkpoint.read("a", &Part::Columns(2..5)).unwrap();
    let expected: Vec<u8> = all.chunks(24).flat_map(|row| row[8..20].to_vec()).collect();
    assert_eq!(columns, expected);
    assert_eq!(checkpoint.bytes_read(), 96 + 48 + 48);
    assert_eq!(checkpoint.read("b", &rows(5..8)).unwrap(), [101, 102, 103]);
    assert_eq!(checkpoint.read("a", &Part::Columns(6..6)).unwrap(), [0u8; 0]);
}

#[test]
fn big_parts_read_by_many_threads_are_the_same_bytes() {
    let (count, columns) = (1031usize, 8192usize);
    let header = json!({
        "w": {"dtype": "U8", "shape": [count, columns], "data_offsets": [0, count * columns]},
    });
    let bytes = file(&header, count * columns);
    let data = bytes[bytes.len() - count * columns..].to_vec();
    let checkpoint = open_one_kept(bytes);
    let checkpoint = &checkpoint.1;
    assert_eq!(checkpoint.read("w", &Part::All).unwrap(), data);
    let expected: Vec<u8> = data.chunks(columns).flat_map(|row| row[1000..7003].to_vec()).collect();
    assert_eq!(checkpoint.read("w", &Part::Columns(1000..7003)).unwrap(), expected);
    assert_eq!(checkpoint.read("w", &Part::Columns(0..columns)).unwrap(), data);
    let expected = [&data[7 * columns..900 * columns], &data[..5 * columns]].concat();
    assert_eq!(checkpoint.read("w", &Part::Rows(vec![7..900, 0..5])).unwrap(), expected);
}

fn open_one_kept(bytes: Vec<u8>) -> (TempDir, Checkpoint) {
    let dir = folder(&[("model.safetensors", bytes)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

#[test]
fn parts_outside_a_tensor_are_errors() {
    let (_dir, checkpoint) = open_one_kept(file(&sound_header(), 104));
    for (name, part) in [
        ("a", rows(2..5)),
        ("a", Part::Columns(0..7)),
        ("b", Part::Columns(0..1)),
        ("c", Part::All),
    ] {
        let error = checkpoint.read(name, &part).unwrap_err().to_string();
        assert!(error.starts_with(&format!("tensor {name}: ")), "{error}");
    }
    let error = checkpoint.read_into("b", &Part::All, &mut [0; 7]).unwrap_err().to_string();
    assert!(error.contains("8 bytes, the buffer 7"), "{error}");
    assert_eq!(checkpoint.bytes_read(), 0);
}

#[test]
fn every_kind_of_damage_is_refused_by_name() {
    let with = |name: &str, key: &str, value: Value| {
        let mut header = sound_header();
        header[name][key] = value;
        file(&header, 104)
    };
    let mut huge_length = file(&sound_header(), 104);
    huge_length[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut long_header = file(&sound_header(), 104);
    long_header[..8].copy_from_slice(&10_000u64.to_le_bytes());
    let twice = br#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"#.repeat(2);
    let twice = [b"{".as_slice(), &twice, br#""c":{}}"#].concat();
    let twice = [&(twice.len() as u64).to_le_bytes()[..], &twice, b"x"].concat();
    let nested = [b"[".repeat(5000), b"]".repeat(5000)].concat();
    let nested = [&(nested.len() as u64).to_le_bytes()[..], &nested].concat();
    for (bytes, reason) in [
        (vec![1, 2, 3], "truncated: 3 bytes"),
        (huge_length, "not a safetensors file: header of 18446744073709551615"),
        (long_header, "truncated: the header has 10000 bytes"),
        (file(&sound_header(), 103), "truncated: tensor b ends at byte 104"),
        (file(&sound_header(), 105), "1 bytes after the last tensor"),
        (twice, "tensor a comes twice"),
        (nested, "malformed safetensors header"),
        (file(&json!({"a": 1}), 0), "malformed safetensors header"),
        (with("a", "dtype", json!("F8_E8M0")), "tensor a has the unsupported type \"F8_E8M0\""),
        (with("a", "shape", json!([4, 7])), "tensor a of type F32 and shape [4, 7] has 96"),
        (with("a", "shape", json!([u64::MAX, 2, 2])), "tensor a of type F32"),
        (with("a", "shape", json!([1, 1, 1, 1, 1, 1, 1, 1, 24])), "tensor a has 9 axes"),
        (with("a", "shape", json!([-4, 6])), "malformed safetensors header"),
        (with("a", "data_offsets", json!([96, 0])), "tensor a ends at 0, before its begin"),
        (with("b", "data_offsets", json!([95, 103])), "tensor b overlaps"),
        (with("b", "data_offsets", json!([8, 16])), "tensor b overlaps"),
        (with("a", "data_offsets", json!([4, 100])), "4 unused bytes lie before tensor a"),
    ] {
        let error = refusal(bytes);
        assert!(error.contains("model.safetensors: ") && error.contains(reason), "{error}");
    }
}

#[test]
fn flipped_bytes_never_panic_nor_read_outside_the_file() {
    let sound = file(&sound_header(), 104);
    let header_bytes = sound.len() - 104;
    let dir = folder(&[]);
    let path = dir.path().join("model.safetensors");
    let mut state = 0x5EED_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) as usize % below
    };
    let mut opened = 0;
    for _ in 0..3000 {
        let mut bytes = sound.clone();
        for _ in 0..=random(3) {
            bytes[random(header_bytes)] = random(256) as u8;
        }
        bytes.truncate(bytes.len() - if random(4) == 0 { random(104) } else { 0 });
        fs::write(&path, &bytes).unwrap();
        let Ok(checkpoint) = Checkpoint::open(dir.path()) else {
            continue;
        };
        opened += 1;
        let names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
        for name in names {
            checkpoint.read(&name, &Part::All).unwrap();
        }
    }
    assert!(opened < 3000, "most flips must be seen");
}

fn shards() -> [(&'static str, Vec<u8>); 2] {
    let one = json!({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}});
    let two = json!({"b": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}});
    [("m-1.safetensors", file(&one, 2)), ("m-2.safetensors", file(&two, 3))]
}

fn with_index(map: &Value) -> TempDir {
    let index = json!({"weight_map": map}).to_string().into_bytes();
    let [one, two] = shards();
    folder(&[one, two, ("model.safetensors.index.json", index)])
}

#[test]
fn shards_are_found_through_the_index_and_through_links() {
    let dir = with_index(&json!({"a": "m-1.safetensors", "b": "m-2.safetensors"}));
    // The Hugging Face cache keeps blobs elsewhere and links to them.
    let blob = dir.path().join("blob");
    fs::rename(dir.path().join("m-2.safetensors"), &blob).unwrap();
    symlink(&blob, dir.path().join("m-2.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(checkpoint.read("b", &Part::All).unwrap(), [0, 1, 2]);
    assert_eq!(checkpoint.read("a", &Part::All).unwrap(), [0, 1]);
    assert_eq!(checkpoint.total_bytes(), 5);
}

#[test]
fn an_index_that_lies_is_refused() {
    let (one, two) = ("m-1.safetensors", "m-2.safetensors");
    for (map, reason) in [
        (json!({"a": one}), None),
        (json!({"a": one, "b": one}), Some("tensor b is in m-1.safetensors, it is not there")),
        (json!({"a": two, "b": two, "x": one}), Some("says tensor a is in m-2.safetensors")),
        (json!({"a": one, "b": two, "c": two}), Some("says tensor c is in m-2.safetensors")),
        (json!({"a": one, "x": two}), Some("does not list tensor b")),
        (json!({"a": "../m.safetensors"}), Some("must be a .safetensors file in the same")),
        (json!({"a": "/etc/m.safetensors"}), Some("must be a .safetensors file")),
        (json!({"a": "config.json"}), Some("must be a .safetensors file")),
        (json!({"a": 3}), Some("is not a file name")),
        (json!({}), Some("lists no tensors")),
        (json!([1]), Some("has no object \"weight_map\"")),
        (json!({"a": "gone.safetensors"}), Some("the first gone.safetensors; download the model")),
        (json!({"a": one, "b": "m-3.safetensors"}), Some("of which 1 are not here, the first m-3")),
    ] {
        let result = Checkpoint::open(with_index(&map).path());
        match reason {
            // A file the index does not use is not looked at.
            None => assert_eq!(result.unwrap().names().count(), 1),
            Some(reason) => {
                let error = result.expect_err(reason).to_string();
                assert!(error.contains(reason), "{error}");
            }
        }
    }
}

/// An index beside these files, each with a tensor of its name: which are opened.
fn opened(index: &[&str], files: &[&str]) -> Result<Vec<String>, String> {
    let dir = folder(&[]);
    for name in files {
        let header = json!({*name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}});
        fs::write(dir.path().join(name), file(&header, 1)).unwrap();
    }
    let map: serde_json::Map<_, _> =
        index.iter().map(|name| ((*name).to_owned(), json!(name))).collect();
    let index = json!({"weight_map": map}).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).map_err(|e| e.to_string())?;
    Ok(checkpoint.names().map(str::to_owned).collect())
}

#[test]
fn a_stale_index_is_passed_over_for_what_is_whole() {
    let of = |number: usize, count: usize| format!("model-{number:05}-of-{count:05}.safetensors");
    let [one, two] = [of(1, 2), of(2, 2)];
    let three: Vec<String> = (1..=3).map(|number| of(number, 3)).collect();
    let three: Vec<&str> = three.iter().map(String::as_str).collect();
    let old = [one.as_str(), &two];
    let single = "model.safetensors";
    let taken = |files: &[&str]| opened(&old, files).unwrap();
    assert_eq!(taken(&[single]), [single]);
    assert_eq!(taken(&[single, &one]), [single]);
    assert_eq!(taken(&[single, &one, &two]), old, "then the index is right");
    assert_eq!(taken(&three), three);
    assert_eq!(taken(&[&two, three[0], three[1], three[2]]), three);
    assert_eq!(taken(&["model.a.safetensors", "model.b.safetensors"]).len(), 2);
    for (files, reason) in [
        (
            vec![],
            "of which 2 are not here, the first model-00001-of-00002.safetensors; download the \
                  model again",
        ),
        (
            vec![two.as_str()],
            "of which 1 are not here, the first model-00001-of-00002.safetensors; \
                              download the rest",
        ),
        (vec![three[0], three[2]], "download the model again"),
        (vec![&two, three[0]], "download the rest"),
        (vec!["weights.safetensors"], "download the model again"),
    ] {
        let refused = opened(&old, &files).unwrap_err();
        assert!(
            refused.contains("index.json: names 2 files") && refused.contains(reason),
            "{refused}"
        );
    }
}

#[test]
fn folders_that_are_no_models_are_refused_with_a_hint() {
    let dir = TempDir::new().unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    fs::write(dir.path().join("config.json"), "{]").unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("config.json: is not valid JSON"), "{error}");
    fs::write(dir.path().join("config.json"), "[]").unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is not a JSON object"), "{error}");
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("tandem model import"), "{error}");
    fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is not a file"), "{error}");
}

#[test]
fn a_file_exchanged_after_opening_is_not_read() {
    let [one, two] = shards();
    let dir = folder(&[("model-1.safetensors", one.1), ("model-2.safetensors", two.1)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let swap = |name: &str| dir.path().join(name);
    fs::remove_file(swap("model-2.safetensors")).unwrap();
    fs::copy(swap("model-1.safetensors"), swap("model-2.safetensors")).unwrap();
    assert_eq!(checkpoint.read("a", &Part::All).unwrap(), [0, 1]);
    let error = checkpoint.read("b", &Part::All).unwrap_err().to_string();
    assert!(error.contains("model-2.safetensors: was changed"), "{error}");
}
