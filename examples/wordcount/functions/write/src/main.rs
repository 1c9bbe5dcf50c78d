//! Writes a text into the pool: words of a made-up language, the n-th as frequent as 1/n, as in real ones (Zipf).

use std::process::ExitCode;

use baton::{Buffer, Context, Error, Request, Response};

const MEGABYTE: usize = 1 << 20;
const WORDS: usize = 50_000;
const SYLLABLES: [&str; 20] = [
    "ba", "ton", "lo", "mi", "ra", "ne", "ku", "si", "ver", "do", "ta", "el", "ga", "pu", "in", "or", "fe",
    "zu", "ha", "che",
];

fn main() -> ExitCode {
    let language = Language::new();
    baton::serve(async move |ctx: Context, request: Request| {
        let megabytes = number(&request, "megabytes", 64)?;
        let seed = number(&request, "seed", 1)?;
        let len = usize::try_from(megabytes).ok().and_then(|megabytes| megabytes.checked_mul(MEGABYTE));
        let len = len.filter(|len| *len > 0).ok_or_else(|| Error::new(400, "megabytes: 1 or more"))?;
        let mut text = ctx.alloc(len)?;
        language.fill(&mut text, len, seed)?;
        Ok(Response::ok(text).header("content-type", "text/plain"))
    })
}

fn number(request: &Request, name: &str, otherwise: u64) -> Result<u64, Error> {
    let pairs = request.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.into_iter().find(|(key, _)| *key == name) else { return Ok(otherwise) };
    value.parse().map_err(|_| Error::new(400, format!("{name}: {value:?} is no whole number")))
}

struct Language {
    words: Vec<String>,
    /// Of each word, how likely it or one before it is.
    sums: Vec<f64>,
}

impl Language {
    fn new() -> Language {
        let mut random = Random(7);
        let mut words = Vec::with_capacity(WORDS);
        let mut sums = Vec::with_capacity(WORDS);
        let (mut sum, mut rank) = (0.0, 1.0);
        for _ in 0..WORDS {
            let syllables = 1 + random.below(4);
            let syllable = |_| SYLLABLES.get(random.below(SYLLABLES.len())).copied().unwrap_or_default();
            words.push((0..syllables).map(syllable).collect());
            sum += 1.0 / rank;
            sums.push(sum);
            rank += 1.0;
        }
        Language { words, sums }
    }

    /// Writes so many bytes.
    fn fill(&self, text: &mut Buffer, len: usize, seed: u64) -> Result<(), Error> {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let all = self.sums.last().copied().unwrap_or(1.0);
        let mut in_line = 0;
        loop {
            let wanted = random.unit() * all;
            let at = self.sums.partition_point(|sum| *sum < wanted);
            let word = self.words.get(at).map_or("", String::as_str);
            if text.len() + word.len() + 1 > len {
                break;
            }
            text.extend_from_slice(word.as_bytes())?;
            in_line += 1;
            text.extend_from_slice(if in_line % 12 == 0 { b"\n" } else { b" " })?;
        }
        while text.len() < len {
            text.extend_from_slice(b"\n")?;
        }
        Ok(())
    }
}

/// Xorshift: the same text for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % bound
    }

    fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}
