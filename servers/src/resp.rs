//! Redis's protocol, as far as tests need it to question a server.

use std::io::{self, BufRead, BufReader, Read, Write};

use crate::port::connect;

/// Sends a command to a server on loopback, and returns the lines of its answer: headers as they
/// are sent (`*2`, `$5`), and the lines of each text.
///
/// # Errors
/// If there is no answer in time.
pub fn lines_of(port: u16, command: &str) -> io::Result<Vec<String>> {
    let mut reader = BufReader::new(connect(port)?);
    let line = format!("{command}\r\n");
    reader.get_mut().write_all(line.as_bytes())?;
    let mut lines = Vec::new();
    read_value(&mut reader, &mut lines)?;
    Ok(lines)
}

fn read_value(from: &mut impl BufRead, lines: &mut Vec<String>) -> io::Result<()> {
    let mut header = String::new();
    if from.read_line(&mut header)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let header = header.trim_end().to_owned();
    lines.push(header.clone());
    match header.split_at_checked(1) {
        Some(("$", length)) => {
            // -1 means that there is no text.
            if let Ok(length) = length.parse::<u64>() {
                let mut text = String::new();
                from.by_ref().take(length).read_to_string(&mut text)?;
                lines.extend(text.lines().map(str::to_owned));
                from.read_line(&mut String::new())?;
            }
        }
        Some(("*", count)) => {
            for _ in 0..count.parse::<i64>().unwrap_or(0) {
                read_value(from, lines)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_every_shape_are_read() {
        let answer = "*4\r\n$3\r\na\nb\r\n:5\r\n$-1\r\n*1\r\n+OK\r\n-ERR not read\r\n";
        let mut lines = Vec::new();
        read_value(&mut answer.as_bytes(), &mut lines).unwrap();
        assert_eq!(lines, ["*4", "$3", "a", "b", ":5", "$-1", "*1", "+OK"]);
        assert!(read_value(&mut &b""[..], &mut lines).is_err());
    }
}
