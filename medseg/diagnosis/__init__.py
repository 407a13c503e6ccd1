"""From sequences of features to a diagnosis: a recurrent network, a linear baseline, measures of a signal."""
