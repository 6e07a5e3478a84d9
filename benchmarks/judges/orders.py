"""States how each judge must order different kinds of damage to real sounds."""

SAME, OTHER = "the same", "another instrument"
NOISES = {f"noise {level} dB below": level for level in (30, 20, 10, 0)}
LOW_PASSED = {"low-passed at 4 kHz": 4_000, "low-passed at 1 kHz": 1_000}
MOVED = {"pitch moved by 30 cents": 30, "pitch moved by 100 cents": 100}
NOISY = (SAME, *NOISES)

# For each column: kinds of damage from the best to the worst, and the smallest step between neighbours.
ORDERS: dict[str, list[tuple[tuple[str, ...], float]]] = {
    "ViSQOL": [(NOISY, 0.05), ((SAME, *LOW_PASSED), 0.05), ((SAME, OTHER), 0.5)],
    "log-spectral distance (dB)": [(NOISY, 1.0), ((SAME, *LOW_PASSED), 1.0), ((SAME, OTHER), 3.0)],
    "STFT distance": [(NOISY, 0.1), ((SAME, *LOW_PASSED), 0.05), ((SAME, OTHER), 0.3)],
    "mel distance (dB)": [(NOISY, 1.0), ((SAME, *LOW_PASSED), 0.3), ((SAME, OTHER), 3.0)],
    "SI-SDR (dB)": [(NOISY, 5.0), ((SAME, OTHER), 30.0), ((SAME, *MOVED), 0.0)],
    "periodicity": [(NOISY, 0.0), ((SAME, "noise 0 dB below"), 0.2)],
    "cents off": [((SAME, *MOVED), 15.0)],
    "pitch right": [
        ((SAME, "pitch moved by 100 cents"), 0.8),
        (("noise 10 dB below", "pitch moved by 100 cents"), 0.8),
    ],
    "CREPE cents off": [((SAME, *MOVED), 15.0)],
    "CREPE pitch right": [((SAME, "pitch moved by 100 cents"), 0.8)],
    "CREPE confidence": [((SAME, "noise 0 dB below"), 0.05)],
    "instrument right": [((SAME, OTHER), 0.7)],
    "notes F1": [((SAME, "pitch moved by 100 cents"), 0.5), ((SAME, "noise 0 dB below"), 0.1)],
    "kernel distance x 1000": [((SAME, "noise 20 dB below", "noise 0 dB below"), 1.0), ((SAME, OTHER), 1.0)],
    # With noise at 10 dB, PESQ is nearly at its lowest value.
    "PESQ": [(NOISY[:4], 0.05)],
    "STOI": [(NOISY, 0.002), ((SAME, "low-passed at 1 kHz"), 0.05)],
    "DNSMOS": [((SAME, "noise 20 dB below", "noise 10 dB below", "noise 0 dB below"), 0.1)],
    "DNSMOS background": [((SAME, "noise 20 dB below", "noise 10 dB below", "noise 0 dB below"), 0.1)],
    # 300 cents are 19 % of the tempo; 100 cents leave few notes in the key.
    "phrases: tempo right": [((SAME, "pitch moved by 300 cents"), 0.5)],
    "phrases: notes in key": [((SAME, "pitch moved by 100 cents"), 0.3)],
    "phrases: notes F1": [((SAME, "pitch moved by 100 cents"), 0.3)],
}
# Columns in which lower is better.
LOWER = {
    "log-spectral distance (dB)", "STFT distance", "mel distance (dB)", "cents off", "CREPE cents off",
    "kernel distance x 1000",
}  # fmt: skip


def broken(table: dict[str, dict[str, float]]) -> list[str]:
    """Returns a sentence for each order that does not hold in a table {column: {kind of damage: mean}}."""
    told = []
    for column, orders in ORDERS.items():
        for kinds, step in orders:
            values = [table.get(column, {}).get(kind, float("nan")) * (-1 if column in LOWER else 1) for kind in kinds]
            for better, worse, a, b in zip(kinds, kinds[1:], values, values[1:], strict=False):
                if not a - b >= step:
                    told.append(f"{column}: '{better}' should be better than '{worse}' by {step:g}, not {a - b:.3g}.")
    return told
