//! The vectors of the reference implementation: key 00..0f, messages 00.. of growing length.

use super::siphash24;

#[test]
fn published_vectors() {
    let message: Vec<u8> = (0..15).collect();
    let expected = [
        (0, 0x726f_db47_dd0e_0e31),
        (1, 0x74f8_39c5_93dc_67fd),
        (2, 0x0d6c_8009_d9a9_4f5a),
        (3, 0x8567_6696_d7fb_7e2d),
        (8, 0x93f5_f579_9a93_2462),
        (15, 0xa129_ca61_49be_45e5_u64),
    ];
    for (length, hash) in expected {
        let found = siphash24(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908, &message[..length]);
        assert_eq!(found, hash, "length {length}: {found:016x}");
    }
}
