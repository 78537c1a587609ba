"""Verifies a countersign audit log. Written from docs/audit-format.md alone.

    verify_log.py DIR KEY [CHECKPOINT...]     exit code 0: whole, 1: broken

KEY is the log's public key as `countersign init` printed it; CHECKPOINTs are copies kept from earlier.
Needs `cryptography` for Ed25519, which Python's standard library lacks.
"""
import base64, hashlib, json, pathlib, re, sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def need(true, *why):
    if not true:
        print("broken:", *why)
        sys.exit(1)

def open_note(path, key):
    """The size and root hash of a signed checkpoint."""
    name, key_id, public = key.split("+", 2)
    public = base64.b64decode(public, validate=True)
    need(public[:1] == b"\x01" and sha(name.encode(), b"\n", public)[:4].hex() == key_id, "the key is malformed")
    text, _, signatures = path.read_bytes().decode().rpartition("\n\n")
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if (dash, signer, signature[:4].hex()) == ("\u2014", name, key_id):
            Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature[4:], (text + "\n").encode())
            origin, size, root = text.split("\n")[:3]
            need(origin == name and str(int(size)) == size, path, "is of another log")
            return int(size), base64.b64decode(root, validate=True)
    need(False, path, "is not signed by the key")

def root_of(peaks):
    """RFC 6962: the roots of the complete subtrees, folded from the right."""
    root = peaks[-1][1] if peaks else sha()
    for _, left in reversed(peaks[:-1]):
        root = sha(b"\x01", left, root)
    return root

def verify(directory, key, *kept):
    origin = key.split("+")[0]
    covered, _ = own = open_note(directory / "checkpoint", key)
    anchors = [own] + [open_note(path, key) for path in [*directory.glob("checkpoints/" + "[0-9]" * 20), *kept]]
    prev, seq, peaks, opened, roots = sha(b"countersign-log/v1\n", origin.encode(), b"\n"), 0, [], None, {0: sha()}
    segments = sorted(directory.glob("[0-9]" * 20 + ".jsonl"))
    for segment in segments:
        need(int(segment.stem) == seq, segment.name, "does not begin at record", seq)
        need(seq <= covered, "the checkpoint is older than", segment.name)
        data = segment.read_bytes()
        end = re.match(rb"([^\0\n][^\n]*\n)*", data).end()
        need(end == len(data) or segment == segments[-1], segment.name, "has something after its last record")
        for line in data[:end].split(b"\n")[:-1]:
            record = json.loads(line)
            need((record["v"], record["log"], record["seq"]) == (1, origin, seq), segment.name, "record", seq, "is another")
            need(record["prev"] == prev.hex(), segment.name, "record", seq, "does not follow the one before")
            need(opened is None or record["type"] in ("log.open", "log.recovered"), "the checkpoint is older than record", opened)
            opened = seq if record["type"] == "log.open" and seq >= covered else opened
            header = [peak.hex() for _, peak in peaks] if seq and seq == int(segment.stem) else None
            need(record["type"] == "log.segment" if header else record["type"] != "log.segment", "record", seq, "is misplaced")
            need(header is None or record["frontier"] == header, "record", seq, "carries another tree")
            prev = sha(b"\x00", line)
            peaks.append((1, prev))
            while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
                (size, left), (_, right) = peaks[-2:]
                peaks[-2:] = [(2 * size, sha(b"\x01", left, right))]
            seq += 1
            roots[seq] = root_of(peaks) if any(size == seq for size, _ in anchors) else None
    for size, root in sorted(anchors):
        need(size <= seq, "the log has", seq, "records, a checkpoint was signed for", size)
        need(roots[size] == root, "the first", size, "records are not those a checkpoint was signed for")
    print("whole:", seq, "records,", covered, "of them covered by the checkpoint")

if __name__ == "__main__":
    try:
        verify(pathlib.Path(sys.argv[1]), sys.argv[2], *map(pathlib.Path, sys.argv[3:]))
    except (InvalidSignature, ValueError, KeyError, TypeError, OSError) as error:
        need(False, repr(error))
