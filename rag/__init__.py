"""Models, retrievers, fusion, decoding and the pipeline that joins them."""
