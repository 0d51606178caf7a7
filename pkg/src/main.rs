//! `tandem-pkg`: builds Tandem for macOS and packs it as an installer package.

fn main() -> anyhow::Result<()> {
    Ok(())
}
