//! An object verified against its name.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use layerfmt::check::check;
use layerfmt::{Digest, Layer, LayerSet};
use wire::paths::Class;

use crate::store::Key;

/// Reads every byte of the object in `file`. Of a layer every chunk is decoded; contents that it borrows are its lenders' to verify.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn verify(key: &Key, file: &Path) -> Result<(), String> {
    let object = key.object().ok_or("its name contains no digest")?;
    let promised = object.digest().ok_or("its name contains no digest")?;
    let found = match object.class() {
        Class::Layer | Class::Pack | Class::Index => {
            let layer = Layer::map(file).map_err(|error| error.to_string())?;
            let layer = Arc::new(layer);
            check(&layer, &LayerSet::new([]), |_| ()).map_err(|error| error.to_string())?;
            layer.digest()
        }
        _ => whole(file).map_err(|error| error.to_string())?,
    };
    if found == promised {
        Ok(())
    } else {
        Err(format!("it has digest {found}"))
    }
}

fn whole(file: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut File::open(file)?, &mut hasher)?;
    Ok(Digest::from(hasher.finalize()))
}
