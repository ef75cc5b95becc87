//! Base64 of cookie values, by the processor's vector instructions if it has them.

use base64::Engine;

/// The standard alphabet, with padding. A text that no encoder writes is refused.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn standard() -> &'static impl Engine {
    use std::sync::LazyLock;

    use base64::engine::{Simd, general_purpose::PAD};

    static ENGINE: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));
    &*ENGINE
}

/// The standard alphabet, with padding. A text that no encoder writes is refused.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn standard() -> &'static impl Engine {
    &base64::engine::general_purpose::STANDARD
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_usual_base64(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let text = standard().encode(&bytes);
            prop_assert_eq!(&text, &STANDARD.encode(&bytes));
            prop_assert_eq!(standard().decode(text), Ok(bytes));
        }

        #[test]
        fn what_is_refused_is_refused(text in "([A-D+/]{4}){0,50}[A-D=é]{0,4}") {
            prop_assert_eq!(standard().decode(&text).ok(), STANDARD.decode(&text).ok());
        }
    }
}
