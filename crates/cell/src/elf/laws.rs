//! What every accepted image keeps to, said once more and in other words than the parser's: for tests and fuzzing.

use super::{Access, HEADERS_MAX, IMAGE_BYTES_MAX, Image, PAGE, RELOCATIONS_MAX, SEGMENTS_MAX};

/// Panics if `image`, parsed from `file`, breaks a law that loaders rely on.
pub(crate) fn hold(image: &Image, file: &[u8]) {
    let segments = image.segments();
    assert!(!segments.is_empty() && segments.len() <= SEGMENTS_MAX);
    let mut total = 0u64;
    for segment in segments {
        assert_eq!(segment.bytes(file).len() as u64, segment.file_bytes, "inside the file");
        assert!(segment.file_bytes <= segment.memory_bytes);
        assert_eq!(segment.at % PAGE, segment.offset % PAGE, "can be mapped");
        assert!(segment.end() <= IMAGE_BYTES_MAX && segment.end() >= segment.at);
        assert!(segment.pages().start >= image.span().start && segment.pages().end <= image.span().end);
        if segment.access == Access::Execute {
            assert_eq!(segment.file_bytes, segment.memory_bytes, "code comes from the file");
        }
        total += segment.file_bytes;
    }
    assert!(total <= file.len() as u64);
    for (index, one) in segments.iter().enumerate() {
        for other in &segments[index + 1..] {
            assert!(one.end() <= other.at, "no overlap");
            let apart = one.pages().end <= other.pages().start;
            assert!(apart || one.access == other.access, "a page is writable or executable, never both");
        }
    }
    let code: Vec<_> = image.code().collect();
    assert!(code.iter().any(|range| range.contains(&image.entry())));
    assert!(code.windows(2).all(|pair| pair[0].end < pair[1].start), "neighbours are one range");
    for segment in segments {
        let inside = code.iter().any(|range| range.start <= segment.at && segment.end() <= range.end);
        assert_eq!(inside, segment.access == Access::Execute);
    }
    assert!(image.header_count() > 0 && image.header_count() <= HEADERS_MAX);
    let table = u64::from(image.header_count()) * 56;
    assert!(image.offset_of(image.headers_at(), table).is_some(), "program headers are loaded");
    hold_relocations(image, file);
}

fn hold_relocations(image: &Image, file: &[u8]) {
    let writable = |start: u64, end: u64| {
        let mut segments = image.segments().iter().filter(|segment| segment.access == Access::Write);
        segments.any(|segment| segment.pages().start <= start && end <= segment.pages().end)
    };
    if let Some(relro) = image.relro() {
        assert!(relro.start < relro.end && relro.start % PAGE == 0 && relro.end % PAGE == 0);
        assert!(writable(relro.start, relro.end));
    }
    let mut count = 0;
    for relocation in image.relocations(file) {
        let at = relocation.at();
        assert!(writable(at, at + 8), "code is not relocated");
        count += 1;
    }
    assert!(count <= RELOCATIONS_MAX);
    assert!(count == 0 || !image.relocates_itself());
}
