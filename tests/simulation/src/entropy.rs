//! Randomness from a seed. Ids, tickets, the order of hash maps and of tokio's wake-ups all come of what the system
//! calls random; this takes the place of its one source, in threads that ask for it.

use std::cell::Cell;
use std::thread;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs something in a thread of its own, in which everything that is random comes from `seed`.
///
/// # Errors
/// With what it panicked.
pub fn seeded<T: Send>(seed: u64, run: impl FnOnce() -> T + Send) -> thread::Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                STATE.set(Some(seed));
                // It takes its seed from the time.
                fastrand::seed(seed);
                run()
            })
            .join()
    })
}

/// As the system's: the standard library and the crates that make random numbers find it by its name.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "it has the system's signature")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    let Some(mut state) = STATE.try_with(Cell::get).ok().flatten() else {
        // SAFETY: the system call takes what the function takes.
        let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return got as libc::ssize_t;
    };
    if !buffer.is_null() {
        // SAFETY: the caller vouches for `length` bytes at `buffer`, which need not be initialised to be written.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        for byte in bytes {
            *byte = next(&mut state).to_be_bytes()[0];
        }
    }
    STATE.set(Some(state));
    length as libc::ssize_t
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apex_core::clock::SystemClock;
    use apex_core::id::RunId;
    use std::collections::HashSet;

    fn drawn() -> (Vec<u8>, Vec<u32>, u64) {
        let id = RunId::new(&SystemClock).as_bytes()[6..].to_vec();
        let order = (0..100).collect::<HashSet<u32>>().into_iter().collect();
        (id, order, fastrand::u64(..))
    }

    #[test]
    fn a_seed_gives_the_same_ids_and_the_same_order_of_maps() {
        let [one, again, other] = [7, 7, 8].map(|seed| seeded(seed, drawn).unwrap());
        assert_eq!(one, again);
        assert!(one.0 != other.0 && one.1 != other.1);
        assert_ne!(drawn(), drawn());
    }
}
