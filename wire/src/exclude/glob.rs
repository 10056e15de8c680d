//! One pattern, matched name by name.

/// A pattern as a list of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    parts: Vec<Part>,
}

/// A pattern for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`: any number of names, also none.
    Deep,
    /// Exactly this name.
    Literal(Vec<u8>),
    /// A name of this form.
    Form(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Exactly this byte.
    Byte(u8),
    /// Any one character.
    One,
    /// Any characters, also none.
    Many,
    /// One character of these ranges, or one of no range.
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

impl Glob {
    /// Reads a pattern without its `!` and without its final slash.
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        let anchored = pattern.contains('/');
        let names = pattern.strip_prefix('/').unwrap_or(pattern);
        let mut parts = Vec::new();
        if !anchored {
            parts.push(Part::Deep);
        }
        let mut names = split(names).into_iter().peekable();
        while let Some(name) = names.next() {
            match name {
                "" => return Err("it has an empty name between two slashes".to_owned()),
                "." | ".." => return Err(format!("no path has a name \"{name}\"")),
                "**" if anchored && names.peek().is_none() => {
                    // The contents of a directory, not the directory.
                    parts.extend([Part::Form(vec![Token::Many]), Part::Deep]);
                }
                "**" if anchored => parts.push(Part::Deep),
                name => parts.push(part(name)?),
            }
        }
        Ok(Self { parts })
    }

    /// True if the pattern matches `path`. The work is bounded by pattern × path for every pattern.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let mut rest = &*self.parts;
        let mut names = Some(path);
        // After the last `**`: the parts behind it, and the names it may take next.
        let mut resume: Option<(&[Part], Option<&[u8]>)> = None;
        loop {
            match (rest.split_first(), names) {
                (None, None) => return true,
                (Some((Part::Deep, behind)), _) => {
                    (rest, resume) = (behind, Some((behind, names)));
                    continue;
                }
                (Some((part, behind)), Some(left)) => {
                    let (name, left) = first_name(left);
                    if part.fits(name) {
                        (rest, names) = (behind, left);
                        continue;
                    }
                }
                _ => {}
            }
            let Some((behind, Some(left))) = resume else {
                return false;
            };
            let (_, left) = first_name(left);
            (rest, names, resume) = (behind, left, Some((behind, left)));
        }
    }
}

impl Part {
    fn fits(&self, name: &[u8]) -> bool {
        match self {
            Part::Deep => false,
            Part::Literal(wanted) => wanted == name,
            Part::Form(tokens) => form_fits(tokens, name),
        }
    }
}

/// The names of a pattern. A slash in a character class or behind a backslash is in no name, so it
/// separates there too; [`part`] then finds the class without its end.
fn split(pattern: &str) -> Vec<&str> {
    pattern.split('/').collect()
}

fn first_name(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..)),
        None => (path, None),
    }
}

fn part(name: &str) -> Result<Part, String> {
    let mut tokens = Vec::new();
    let mut literal = true;
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        let token = match letter {
            '*' => {
                literal = false;
                if tokens.last() == Some(&Token::Many) {
                    continue;
                }
                Token::Many
            }
            '?' => {
                literal = false;
                Token::One
            }
            '[' => {
                literal = false;
                let (class, rest) = class(letters.as_str())?;
                letters = rest.chars();
                class
            }
            '{' | '}' => {
                return Err(format!(
                    "'{letter}' is not supported here: write one pattern for each name, or \
                     \"\\{letter}\" for the character itself"
                ));
            }
            '\\' => {
                let next = letters.next().ok_or("it ends with a backslash")?;
                push_bytes(&mut tokens, next);
                continue;
            }
            letter => {
                push_bytes(&mut tokens, letter);
                continue;
            }
        };
        tokens.push(token);
    }
    if !literal {
        return Ok(Part::Form(tokens));
    }
    let byte = |token| match token {
        Token::Byte(byte) => Some(byte),
        _ => None,
    };
    Ok(Part::Literal(tokens.into_iter().filter_map(byte).collect()))
}

fn push_bytes(tokens: &mut Vec<Token>, letter: char) {
    let mut buffer = [0; 4];
    let bytes = letter.encode_utf8(&mut buffer).bytes();
    tokens.extend(bytes.map(Token::Byte));
}

/// A character class, from behind its `[`, and the text behind its `]`.
fn class(text: &str) -> Result<(Token, &str), String> {
    const OPEN: &str = "'[' without its ']' (\"\\[\" is the character itself)";
    let (negated, text) = match text.strip_prefix(['!', '^']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    let mut letters = text.chars();
    let mut is_first = true;
    loop {
        let first = match letters.next().ok_or(OPEN)? {
            ']' if !is_first => break,
            '\\' => letters.next().ok_or(OPEN)?,
            letter => letter,
        };
        is_first = false;
        let mut ahead = letters.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) if last != ']' => {
                let last = match last {
                    '\\' => ahead.next().ok_or(OPEN)?,
                    last => last,
                };
                letters = ahead;
                last
            }
            _ => first,
        };
        if last < first {
            return Err(format!("the range {first}-{last} is backwards"));
        }
        ranges.push((u32::from(first), u32::from(last)));
    }
    Ok((Token::Class { negated, ranges }, letters.as_str()))
}

/// Matches one name, with one resume point for the last `*`.
fn form_fits(tokens: &[Token], name: &[u8]) -> bool {
    let (mut rest, mut left) = (tokens, name);
    let mut resume: Option<(&[Token], &[u8])> = None;
    loop {
        match rest.split_first() {
            None if left.is_empty() => return true,
            Some((Token::Many, behind)) => {
                (rest, resume) = (behind, Some((behind, left)));
                continue;
            }
            Some((token, behind)) => {
                if let Some(after) = token.takes(left) {
                    (rest, left) = (behind, after);
                    continue;
                }
            }
            None => {}
        }
        let Some((behind, [_, after @ ..])) = resume else {
            return false;
        };
        (rest, left, resume) = (behind, after, Some((behind, after)));
    }
}

impl Token {
    /// The rest of `text` after the part that this token matches; `None` if it does not match.
    fn takes<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        match self {
            Token::Byte(wanted) => text.strip_prefix(&[*wanted]),
            Token::Many => None,
            Token::One => first_letter(text).map(|(_, rest)| rest),
            Token::Class { negated, ranges } => {
                let (letter, rest) = first_letter(text)?;
                let is_in = ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&letter));
                (is_in != *negated).then_some(rest)
            }
        }
    }
}

/// The first character; a byte that is not UTF-8 counts as one that no class contains.
fn first_letter(text: &[u8]) -> Option<(u32, &[u8])> {
    let first = *text.first()?;
    let len = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let letter = text
        .get(..len)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|letters| letters.chars().next());
    match letter {
        Some(letter) => Some((u32::from(letter), text.get(len..)?)),
        None => Some((u32::MAX, text.get(1..)?)),
    }
}
