"""What multigrid's parts are worth: the paper's comparisons on one recipe, several seeds each."""
