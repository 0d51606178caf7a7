use std::future;

use super::*;
use crate::{
    AskError,
    command::{fixtures, watch},
};

/// Ends after some looks, since time stands still but for the waits.
async fn after(looks: u32) {
    tokio::time::sleep(Duration::from_millis(u64::from(looks) * 1_000 - 500)).await;
}

fn absent() -> AskError {
    AskError::Unreachable { url: "http://127.0.0.1:1".into(), why: "refused".into() }
}

#[tokio::test(start_paused = true)]
async fn a_watched_screen_is_drawn_again_and_restored() {
    let mut out = Vec::new();
    let mut looks = 0;
    let look = || {
        looks += 1;
        if looks == 2 { Err(absent()) } else { Ok(asked(&fixtures::healthy())) }
    };
    let code = watch::screen(&plain(), look, after(3), &mut out).await.unwrap();
    assert_eq!(code, 0);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("\x1b[?1049h\x1b[?25l\x1b[Hhealth     healthy\x1b[K\r\n"), "{text:?}");
    assert!(text.ends_with("\x1b[J\x1b[?25h\x1b[?1049l"), "{text:?}");
    assert_eq!(text.matches("\x1b[H").count(), 3);
    assert_eq!(text.matches("no supervisor answers at http://127.0.0.1:1: refused").count(), 1);
}

/// Takes so many bytes and then no more.
struct Broken(usize, Vec<u8>);

impl io::Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend(bytes);
        self.0 = self.0.saturating_sub(1);
        if self.0 == 0 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_screen_that_can_not_be_drawn_is_restored_too() {
    let mut out = Broken(usize::MAX, Vec::new());
    let look = || Ok(asked(&fixtures::healthy()));
    let drawn = watch::screen(&plain(), look, future::pending(), &mut out).await;
    assert_eq!(drawn.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(out.1.ends_with(b"\x1b[?25h\x1b[?1049l"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_terminal_gets_a_line_a_second() {
    let mut looks = 0;
    let look = || {
        looks += 1;
        match looks {
            1 => Ok(asked(&fixtures::degraded())),
            2 => Ok(asked(&fixtures::healthy())),
            _ => Err(absent()),
        }
    };
    let mut out = Vec::new();
    let code = watch::lines(&plain(), false, look, after(3), &mut out).await.unwrap();
    assert_eq!(code, 69);
    let text = String::from_utf8(out).unwrap();
    let rest: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(
        rest,
        [
            "studio-1 degraded, backoff epoch 3, tokens came 1 m 35 s ago, 2 faults, first broken \
             link_mtu",
            "studio-1 healthy, serving epoch 3, tokens came 12 s ago",
            "no supervisor answers at http://127.0.0.1:1: refused",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn json_is_watched_line_by_line() {
    let asked = asked(&fixtures::healthy());
    let mut out = Vec::new();
    let look = || Ok(asked.clone());
    watch::lines(&plain(), true, look, after(2), &mut out).await.unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), format!("{0}\n{0}\n", asked.json));
}
