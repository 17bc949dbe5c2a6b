"""Any image model of anomalib as a detector of blemish: `anomalib:Padim`, `anomalib:ReverseDistillation`, ..."""
