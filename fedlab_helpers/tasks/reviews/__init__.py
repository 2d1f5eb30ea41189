"""Chinese reviews: corpus, words, the model that reads them."""
