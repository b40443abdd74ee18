"""Is one run as good as another? Non-inferiority, margins, sample sizes, the decision rule."""
