use proptest::prelude::*;

use super::*;

/// RFC 6962 section 2.1, word for word.
fn naive_root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => sha256(b""),
        [leaf] => *leaf,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            node_hash(&naive_root(&leaves[..split]), &naive_root(&leaves[split..]))
        }
    }
}

fn pushed(leaves: &[Digest]) -> Frontier {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier
}

/// The test vectors that the certificate transparency implementations share.
#[test]
fn roots_are_the_known_ones() {
    let lines: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut frontier = Frontier::default();
    assert_eq!(frontier.root(), sha256(b""));
    for (line, root) in lines.iter().zip(roots) {
        frontier.push(leaf_hash(line));
        assert_eq!(frontier.root().hex(), root);
    }
}

proptest! {
    #[test]
    fn root_is_that_of_the_recursive_definition(seeds in proptest::collection::vec(any::<u64>(), 0..200)) {
        let leaves: Vec<_> = seeds.iter().map(|seed| sha256(&seed.to_be_bytes())).collect();
        let frontier = pushed(&leaves);
        prop_assert_eq!(frontier.size(), leaves.len() as u64);
        prop_assert_eq!(frontier.root(), naive_root(&leaves));
    }

    #[test]
    fn a_frontier_goes_on_from_its_peaks(before in 0_usize..100, after in 0_usize..100) {
        let leaves: Vec<_> = (0..before + after).map(|n| sha256(&n.to_be_bytes())).collect();
        let first = pushed(&leaves[..before]);
        let mut resumed = Frontier::from_peaks(first.size(), first.peaks().to_vec()).unwrap();
        for leaf in &leaves[before..] {
            resumed.push(*leaf);
        }
        prop_assert_eq!(resumed.root(), naive_root(&leaves));
        let mut wrong = first.peaks().to_vec();
        wrong.push(sha256(b""));
        prop_assert_eq!(Frontier::from_peaks(first.size(), wrong), None);
    }
}
