"""The experiments' names and what each shows. Nothing heavy is imported here: the command's help prints it."""

ABOUT = {
    "T1": "10 % contamination, both protocols, against one-class and noise-aware detectors",
    "T2": "contamination from 0 to 20 %, with and without synthetic anomalies",
    "T3": "the net of FUN-AD* alone, without smoothness loss, without Gaussian augmentation, without both",
    "T4": "the net of FUN-AD* alone, over tau_n and tau_c",
    "T5": "the net of FUN-AD* alone, over the weight of the smoothness loss",
    "T6": "the net of FUN-AD* alone, over the share of normal-looking images in the bank",
    "T7": "the net of FUN-AD* alone: pseudo-labels for synthetic anomalies, or the labels of their masks",
    "T8": "semantic anomalies: one class of CIFAR-10 or STL-10 is normal, 1:10 of the others",
    "F1": "distances by kind of pair: are normal pairs the shortest?",
    "F2": "matching ratios of mutually nearest pairs: are they of one class?",
    "F3": "how much likelier normal pairs are to be close: closed forms and simulation",
    "F4": "toy on CIFAR-10: scores before and after training, the bank over time",
    "F5": "images, masks and maps side by side; figures by size of the defect",
    "L1": "contamination with one kind of defect only, rising: FUN-AD's stated limit",
    "S1": "speed of every detector on one backbone and machine",
    "LLBNAD-1": "detectors over contamination, plain and purified",
    "LLBNAD-2": "purification: K, keep ratio, aggregation, own subset, budget of stage 1, random keep, spread by class",
    "core-ablation": "nearest_images: k, images compared with, embedding, stages, pixels, image score, each alone",
    "record": "all detectors over contamination on all sets, both protocols and those of MeDS and SoftPatch",
    "compare": "detectors of your choice on your images: `detectors`, `contamination`, `seeds`",
}
