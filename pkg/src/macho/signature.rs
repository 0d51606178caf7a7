//! The embedded code signature: the form that the kernel checks page by page when it runs a program.
//!
//! Format: `xnu/osfmk/kern/cs_blobs.h`. All numbers are big-endian.

use sha2::{Digest, Sha256};

const SUPER_BLOB: u32 = 0xfade_0cc0;
const CODE_DIRECTORY: u32 = 0xfade_0c02;
/// Slot of the CodeDirectory in the SuperBlob.
const SLOT_CODE_DIRECTORY: u32 = 0;
/// Slot of the CMS signature: certificates and what they signed.
const SLOT_CMS: u32 = 0x1_0000;
/// An empty CMS blob is just its header.
const BLOB_HEADER_BYTES: usize = 8;
/// More blobs than any signature has; a count from a damaged file must not cost time.
const MAX_BLOBS: usize = 32;
const HASH_SHA256: u8 = 2;
const SHA256_BYTES: usize = 32;

const FLAG_AD_HOC: u32 = 0x2;
const FLAG_RUNTIME: u32 = 0x1_0000;

/// What a signature says of itself; its hashes were computed again and were equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The name signed, often the file's.
    pub identifier: String,
    /// Signed by nobody.
    pub ad_hoc: bool,
    /// Asks for the hardened runtime.
    pub hardened: bool,
    /// Carries certificates.
    pub has_certificates: bool,
    /// Pages of the file whose hashes were compared.
    pub pages: usize,
}

/// Checks the signature `blob` over `file`, whose first `signed_bytes` bytes (all before the signature)
/// must be covered.
///
/// # Errors
/// What is wrong with it, as text.
pub fn verify(file: &[u8], signed_bytes: usize, blob: &[u8]) -> Result<Signature, String> {
    let blobs = super_blob(blob).ok_or("the signature is cut short or no SuperBlob")?;
    let of_slot = |slot| blobs.iter().find(|it| it.0 == slot).map(|it| it.1);
    let bytes = of_slot(SLOT_CODE_DIRECTORY).ok_or("the signature has no CodeDirectory")?;
    let directory =
        Directory::parse(bytes).ok_or("the CodeDirectory is cut short or of another kind")?;
    if directory.hash_type != HASH_SHA256 || usize::from(directory.hash_bytes) != SHA256_BYTES {
        return Err("the CodeDirectory does not hash with SHA-256".to_owned());
    }
    if directory.code_limit != signed_bytes {
        return Err(format!(
            "the signature covers {} bytes, but begins at {signed_bytes}",
            directory.code_limit
        ));
    }
    let code =
        file.get(..directory.code_limit).ok_or("the file is shorter than what was signed")?;
    let pages = directory.check_pages(code)?;
    directory.check_special(&blobs)?;
    Ok(Signature {
        identifier: directory.identifier.clone(),
        ad_hoc: directory.flags & FLAG_AD_HOC != 0,
        hardened: directory.flags & FLAG_RUNTIME != 0,
        has_certificates: of_slot(SLOT_CMS).is_some_and(|it| it.len() > BLOB_HEADER_BYTES),
        pages,
    })
}

/// (slot, blob with its header) of each.
fn super_blob(blob: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    if u32_at(blob, 0)? != SUPER_BLOB {
        return None;
    }
    let blob = blob.get(..size_at(blob, 4)?)?;
    let count = size_at(blob, 8)?;
    if count > MAX_BLOBS {
        return None;
    }
    (0..count)
        .map(|index| {
            let entry = 12 + index * 8;
            let content = blob.get(size_at(blob, entry + 4)?..)?;
            Some((u32_at(blob, entry)?, content.get(..size_at(content, 4)?)?))
        })
        .collect()
}

struct Directory<'a> {
    bytes: &'a [u8],
    flags: u32,
    /// Where hash 0 is; hashes of special slots lie before it.
    hash_offset: usize,
    special_slots: usize,
    code_slots: usize,
    code_limit: usize,
    hash_bytes: u8,
    hash_type: u8,
    page_bytes: usize,
    identifier: String,
}

impl<'a> Directory<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if u32_at(bytes, 0)? != CODE_DIRECTORY {
            return None;
        }
        let identifier = bytes.get(size_at(bytes, 20)?..)?;
        let end = identifier.iter().position(|it| *it == 0)?;
        let page_log2 = u32::from(*bytes.get(39)?);
        Some(Self {
            bytes,
            flags: u32_at(bytes, 12)?,
            hash_offset: size_at(bytes, 16)?,
            special_slots: size_at(bytes, 24)?,
            code_slots: size_at(bytes, 28)?,
            code_limit: size_at(bytes, 32)?,
            hash_bytes: *bytes.get(36)?,
            hash_type: *bytes.get(37)?,
            page_bytes: 1_usize.checked_shl(page_log2)?,
            identifier: String::from_utf8_lossy(identifier.get(..end)?).into_owned(),
        })
    }

    fn check_pages(&self, code: &[u8]) -> Result<usize, String> {
        let pages = code.chunks(self.page_bytes);
        if pages.len() != self.code_slots {
            return Err(format!(
                "{} pages are signed, but the file has {}",
                self.code_slots,
                pages.len()
            ));
        }
        for (index, page) in pages.enumerate() {
            let hash = self.hash_offset.checked_add(index * SHA256_BYTES);
            if self.hash_at(hash) != Some(Sha256::digest(page).as_slice()) {
                let at = index * self.page_bytes;
                return Err(format!(
                    "the page at {at:#x} is not what was signed: the file was changed afterwards"
                ));
            }
        }
        Ok(self.code_slots)
    }

    /// Requirements and entitlements lie beside the CodeDirectory, which holds their hashes too.
    fn check_special(&self, blobs: &[(u32, &[u8])]) -> Result<(), String> {
        for (slot, blob) in blobs {
            let Ok(slot) = usize::try_from(*slot) else {
                continue;
            };
            if slot == 0 || slot > self.special_slots {
                continue;
            }
            let hash = self.hash_offset.checked_sub(slot * SHA256_BYTES);
            if self.hash_at(hash) != Some(Sha256::digest(blob).as_slice()) {
                return Err(format!("blob {slot} of the signature is not what was signed"));
            }
        }
        Ok(())
    }

    fn hash_at(&self, offset: Option<usize>) -> Option<&[u8]> {
        self.bytes.get(offset?..)?.get(..SHA256_BYTES)
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

fn size_at(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, offset)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signature over `code` in pages of 4 KiB with one special slot (2, requirements).
    fn signed(code: &[u8], flags: u32) -> Vec<u8> {
        let requirements = [&0xfade_0c01_u32.to_be_bytes()[..], &8_u32.to_be_bytes()].concat();
        let pages: Vec<&[u8]> = code.chunks(4096).collect();
        let mut directory = Vec::new();
        let (identifier, special) = (44_usize, 2_usize);
        let hashes = identifier + 7 + special * 32;
        let length = hashes + pages.len() * 32;
        for number in [
            0xfade_0c02,
            length,
            0x2_0400,
            flags as usize,
            hashes,
            identifier,
            special,
            pages.len(),
            code.len(),
        ] {
            directory.extend(u32::try_from(number).unwrap().to_be_bytes());
        }
        directory.extend([32, 2, 0, 12, 0, 0, 0, 0]);
        directory.extend(b"tandem\0");
        directory.extend(Sha256::digest(&requirements));
        directory.extend([0; 32]);
        for page in &pages {
            directory.extend(Sha256::digest(page));
        }
        assert_eq!(directory.len(), length);
        let mut blob = Vec::new();
        let first = 12 + 2 * 8;
        for number in
            [0xfade_0cc0, first + length + requirements.len(), 2, 0, first, 2, first + length]
        {
            blob.extend(u32::try_from(number).unwrap().to_be_bytes());
        }
        blob.extend(directory);
        blob.extend(requirements);
        blob
    }

    #[test]
    fn a_flipped_bit_anywhere_in_code_or_signature_is_noticed() {
        let code: Vec<u8> = (0..9000_u32).map(|it| (it % 251) as u8).collect();
        let blob = signed(&code, FLAG_AD_HOC);
        let signature = verify(&code, code.len(), &blob).unwrap();
        assert_eq!(
            signature,
            Signature {
                identifier: "tandem".to_owned(),
                ad_hoc: true,
                hardened: false,
                has_certificates: false,
                pages: 3,
            }
        );
        for at in [0, 4095, 4096, 8999] {
            let mut changed = code.clone();
            changed[at] ^= 1;
            let error = verify(&changed, code.len(), &blob).unwrap_err();
            let page = format!("{:#x}", at / 4096 * 4096);
            assert!(error.contains(&page), "{at}: {error}");
        }
        for at in [blob.len() - 1, 12 + 2 * 8 + 44 + 7, 12 + 2 * 8 + 44 + 7 + 64] {
            let mut changed = blob.clone();
            changed[at] ^= 1;
            assert!(verify(&code, code.len(), &changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_signature_that_covers_less_or_is_cut_short_is_refused() {
        let code = vec![7; 5000];
        let blob = signed(&code, FLAG_AD_HOC | FLAG_RUNTIME);
        assert!(verify(&code, 5000, &blob).unwrap().hardened);
        assert!(verify(&code, 5001, &blob).is_err(), "a byte follows that nobody signed");
        assert!(verify(&code[..4999], 5000, &blob).is_err());
        for length in 0..blob.len() {
            assert!(verify(&code, 5000, &blob[..length]).is_err(), "{length} bytes of it");
        }
    }
}
